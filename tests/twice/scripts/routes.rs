//! What a router finds, and what handlers say.

use crate::comparison::twice;
use crate::differences::{NO_CONTENT, REASON};
use crate::stage::Stage;

/// A field of each request.
const JSON: &str = "Content-Type: application/json\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

twice! {
    hello;
    json_api;
    paths;
    queries;
    forms;
    todos;
    key_value;
    substates;
    nested;
    methods;
    redirects;
    sessions;
    errors;
    sqlite;
    background;
    metrics;
}

fn hello(stage: &mut Stage) {
    stage.get("/").expect(200).says("Hello, World!");
    stage.get("/other").expect(404);
    stage.post("/", "", "").expect(405);
}

fn json_api(stage: &mut Stage) {
    stage.post("/users", JSON, r#"{"username":"ann","age":30}"#).expect(201);
    stage
        .post("/users", "Content-Type: application/problem+json; charset=utf-8\r\n", r#"{"username":"é"}"#)
        .expect(201);
    for path in ["/users", "/checked"] {
        stage.post(path, JSON, r#"{"username":"#).expect(400);
        stage.post(path, JSON, r#"{"username":7}"#).expect(422);
        stage.post(path, JSON, r#"{"username":"ann","age":300}"#).expect(422);
        stage.post(path, JSON, "").expect(400);
        stage.post(path, "", "{}").expect(415);
        stage.post(path, "Content-Type: text/plain\r\n", "{}").expect(415);
    }
    stage.get("/value").expect(200);
}

fn paths(stage: &mut Stage) {
    stage.get("/users/7").expect(200).says("user 7");
    stage.get("/users/seven").expect(400);
    stage.get("/users/").expect(404);
    stage.get("/users/4294967296").expect(400);
    stage.get("/teams/1/members/%C3%A9%20x").expect(200);
    stage.get("/teams/one/members/x").expect(400);
    stage.get("/pairs/a%2Fb/-7").expect(200).says("\"a/b\" -7");
    stage.get("/pairs/%FF/1").expect(400);
    stage.get("/pairs/a/200").expect(400);
    stage.get("/files/a/b//c?x").expect(200).says("a/b//c");
    stage.get("/files/").expect(404);
    stage.get("/v1/status").expect(200).says("V1");
    stage.get("/v3/status").expect(404).says("unknown version");
}

fn queries(stage: &mut Stage) {
    stage.get("/list").expect(200).says("1 None None");
    stage.get("/list?page=3&per_page=10&filter=").expect(200);
    stage.get("/list?filter=a+b%26c&unknown=1").expect(200);
    stage.get("/list?page=x").expect(400);
    stage.get("/list?page=1&page=2").expect(400);
    stage.get("/all?b=2&a=1&c&=d&%C3%A9=%C3%A9").expect(200);
    stage.get("/raw").expect(200).says("None");
    stage.get("/raw?").expect(200);
    stage.get("/raw?a=%zz&b=[1]").expect(200);
}

fn forms(stage: &mut Stage) {
    stage.get("/").expect(200);
    stage.post("/", FORM, "name=Ann&email=a%40b.c").expect(303);
    stage.post("/", FORM, "name=Ann+B").expect(200).says("Ann B, your address is missing");
    stage.post("/", FORM, "email=x").expect(422);
    stage.post("/", "", "name=x").expect(415);
    stage.get("/thanks").expect(200);
    stage.get("/show?name=from+the+query").expect(200).says("from the query");
    stage.get("/show").expect(400);
}

fn todos(stage: &mut Stage) {
    let mut client = stage.connect();
    client.get("/todos").expect(200).says("[]");
    for text in ["write", "test", "ship"] {
        client.ask("POST", "/todos", JSON, format!(r#"{{"text":"{text}"}}"#)).expect(201);
    }
    client.ask("PATCH", "/todos/2", JSON, r#"{"completed":true}"#).expect(200);
    client.ask("PATCH", "/todos/9", JSON, r#"{"completed":true}"#).expect(404);
    client.get("/todos?offset=1&limit=1").expect(200).says(r#"[{"id":2,"text":"test","completed":true}]"#);
    client.ask("DELETE", "/todos/1", "", "").expect(204);
    client.ask("DELETE", "/todos/1", "", "").expect(404);
    client.get("/todos").expect(200);
    drop(client);
    stage.begin_stop();
    stage.wait();
}

fn key_value(stage: &mut Stage) {
    stage.get("/one").expect(404);
    stage.post("/one", "", "1").expect(200);
    let long = "a value ".repeat(500);
    stage.post("/long", "", &long).expect(200);
    stage.post("/long", "", "x".repeat(5001)).expect(413);
    stage.get("/one").expect(200).says("1");
    assert_eq!(stage.ask("GET", "/long", "Accept-Encoding: gzip\r\n", "").field("content-encoding"), Some("gzip"));
    stage.get("/keys").expect(200).says("long\none");
    stage.ask("DELETE", "/admin/key/one", "", "").expect(401);
    let token = "Authorization: Bearer secret-token\r\n";
    stage.ask("DELETE", "/admin/key/one", token, "").expect(200);
    stage.ask("DELETE", "/admin/key/one", token, "").expect(404);
    stage.ask("DELETE", "/admin/keys", token, "").expect(200);
    stage.get("/keys").expect(200).says("");
}

fn substates(stage: &mut Stage) {
    stage.get("/api").expect(200).says("the api");
    for number in ["1", "2", "3"] {
        // On connections of their own, which different cores may serve.
        stage.get("/visits").expect(200).says(number);
    }
    stage.get("/banner").expect(200).says("welcome");
    stage.get("/missing").expect(500);
    stage.get("/inner/own").expect(200).says("7");
}

fn nested(stage: &mut Stage) {
    stage.get("/tenants/acme/users").expect(200).says("users");
    stage.get("/tenants/acme/users/").expect(404);
    stage
        .get("/tenants/acme/users/7?x=1")
        .expect(200)
        .says("acme 7 /tenants/{tenant}/users/{id} /tenants/{tenant}/users /tenants/acme/users/7?x=1 /7?x=1");
    stage.ask("DELETE", "/tenants/acme/users/7", "", "").expect(200).says("deleted 7");
    stage.ask("PUT", "/tenants/acme/users/7", "", "").expect(405).says("not PUT");
    stage.get("/tenants/acme/users/7/more").expect(404);
    stage.get("/service/a/b?c").expect(200).says("/a/b?c");
    stage.get("/service").expect(200);
    stage.post("/merged", "", "").expect(200);
    stage.get("/merged").expect(405);
    stage.ask("PATCH", "/either", "", "").expect(200).says("PATCH");
    stage.get("/none").expect(404).says("nothing here");
}

fn methods(stage: &mut Stage) {
    // On one connection: what a body is taken for would shift every later answer.
    let mut client = stage.connect();
    for method in ["HEAD", "GET"] {
        for path in ["/get", "/distinct", "/streamed", "/nothing", "/same", "/missing"] {
            client.ask(method, path, "", "");
        }
        let mut answer = client.ask_unrecorded(method, "/odd", "X: 1\r\nX: 2\r\n", b"").expect(299);
        stage.differs(REASON, answer.line.split_off(12), " <none>".to_owned(), " ".to_owned());
        stage.note(answer.normalised());
    }
    for path in ["/204", "/304"] {
        client.get(path);
        let answer = client.ask_unrecorded("HEAD", path, "", b"");
        stage.differs_in(NO_CONTENT, &answer, "content-length", Some("0"), None);
    }
    client.ask("HEAD", "/head", "", "").expect(200);
    for method in ["GET", "OPTIONS", "DELETE", "PATCH", "TRACE", "PURGE", "M-SEARCH"] {
        client.ask(method, "/any", "", "").expect(200).says(method);
    }
    for method in ["OPTIONS", "POST", "PURGE"] {
        assert!(client.ask(method, "/get", "", "").expect(405).field("allow").is_some());
    }
    client.get("/head").expect(405);
}

fn redirects(stage: &mut Stage) {
    let secure = stage.second;
    for path in ["/to", "/permanent", "/temporary", "/target?a=b"] {
        stage.connect_to(secure).get(path);
    }
    stage.get("/any/path?q=1").expect(308);
    assert_eq!(stage.get("/x").field("location"), Some("https://test/x"));
    let followed = stage.block_on(async {
        let answer = reqwest::get(format!("http://{secure}/to")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    });
    assert_eq!(followed, (200, "/target?x=1".to_owned()));
}

fn sessions(stage: &mut Stage) {
    stage.get("/").expect(200).says("nobody");
    stage.get("/members").expect(307);
    let answer = stage.post("/login", FORM, "name=Ann").expect(303);
    let cookie = answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let with_cookie = format!("Cookie: theme=dark; {cookie}\r\n");
    stage.ask("GET", "/members", &with_cookie, "").expect(200).says("only for Ann");
    // Two fields instead of one.
    stage.ask("GET", "/", &format!("Cookie: theme=dark\r\nCookie: {cookie}\r\n"), "").says("hello Ann");
    stage.ask("POST", "/logout", &with_cookie, "").expect(200);
    stage.ask("GET", "/members", &with_cookie, "").expect(307);
}

fn errors(stage: &mut Stage) {
    stage.get("/parse/7").expect(200).says("7");
    stage.get("/parse/x").expect(500).says("Something went wrong: invalid digit found in string");
    stage.get("/parse/13").expect(500).says("Something went wrong: unlucky");
    stage.get("/users/0").expect(404);
    stage.get("/users/-1").expect(422);
    stage.get("/users/1").expect(200);
    stage.get("/teapot").expect(418);
}

fn sqlite(stage: &mut Stage) {
    stage.get("/users").expect(200).says("");
    stage.post("/users/ann", "", "").expect(201).says("1");
    stage.post("/users/ann", "", "").expect(409).says("taken");
    stage.post("/both/bob/ann", "", "").expect(409);
    stage.get("/users").expect(200).says("ann");
    stage.post("/both/bob/cid", "", "").expect(200);
    stage.get("/users").expect(200).says("ann,bob,cid");
    at_once(stage, 20);
    stage.get("/users").expect(200);
    stage.begin_stop();
    stage.wait();
}

fn background(stage: &mut Stage) {
    stage.post("/add/40", "", "").expect(202);
    // Waits in a handler for what another request does.
    let mut waiting = stage.connect();
    waiting.send_request("GET", "/wait/42", "", b"");
    stage.post("/add/2", "", "").expect(202);
    waiting.answer_to("GET").expect(200).says("42");
    stage.get("/total").expect(200).says("42");
    drop(waiting);
    stage.begin_stop();
    stage.wait();
}

fn metrics(stage: &mut Stage) {
    for path in ["/fast/1", "/fast/2", "/refuses", "/none"] {
        stage.get(path);
    }
    stage.post("/fast/1", "", "").expect(405);
    let operator = stage.second;
    let answer = stage.connect_to(operator).get("/metrics").expect(200);
    assert!(answer.text().contains("http_requests_total{method=\"GET\",path=\"/fast/{id}\",status=\"200\"} 2\n"));
}

/// Writes from connections at the same time.
fn at_once(stage: &Stage, number: usize) {
    let mut clients: Vec<_> = (0..number).map(|_| stage.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_request("POST", &format!("/users/user{number:02}"), "", b"");
    }
    for client in &mut clients {
        client.read_answer("POST").expect(201);
    }
}
