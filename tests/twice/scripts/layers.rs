//! Middleware: of functions, of tower and tower-http, around routes and around the router.

use std::io::Write;

use crate::comparison::twice;
use crate::stage::Stage;

const GZIP: &str = "Accept-Encoding: gzip\r\n";

twice! {
    extractors;
    middlewares;
    fallible;
    late;
    compressed;
    cors;
    traced;
    request_ids;
    guarded;
    normalised;
}

fn extractors(stage: &mut Stage) {
    stage.ask("GET", "/agent", "User-Agent: mine/1.0\r\n", "").expect(200).says("mine/1.0");
    stage.get("/agent").expect(400).says("`User-Agent` header is missing");
    stage.post("/either", "Content-Type: application/json\r\n", r#"{"foo":"bar"}"#).expect(200);
    stage.post("/either", "Content-Type: application/x-www-form-urlencoded\r\n", "foo=bar").expect(200);
    stage.post("/either", "Content-Type: text/plain\r\n", "foo=bar").expect(415);
    stage.post("/either", "Content-Type: application/json\r\n", "{").expect(400);
    stage.ask("PUT", "/parts?a=b", "X-One: 1\r\nx-one: 2\r\nAccept: */*\r\nX-Empty:\r\n", "").expect(200);
    stage.post("/text", "", "äöü").expect(200).says("ÄÖÜ");
    stage.post("/text", "", b"\xff").expect(400);
}

fn middlewares(stage: &mut Stage) {
    stage.post("/", "", "a body").expect(200).says("seen: a body");
    stage.post("/", "", "x".repeat(10_001)).expect(413);
    stage.get("/hidden").expect(403);
    let answer = stage.ask("GET", "/hidden", "X-Pass: yes\r\n", "").expect(200);
    let order: Vec<_> = answer.fields.iter().filter(|(name, _)| name == "x-order").map(|(_, value)| value).collect();
    assert_eq!(order, ["inner", "outer", "outermost"]);
    stage.get("/none").expect(404);
}

fn fallible(stage: &mut Stage) {
    stage.get("/fallible?well").expect(200);
    stage.get("/fallible?fail").expect(502).says("GET /fallible?fail: it failed");
    stage.ask("DELETE", "/plain", "", "").expect(200).says("a plain service");
    stage.get("/limited").expect(200);
}

fn late(stage: &mut Stage) {
    stage.get("/never").expect(408);
    stage.get("/gateway").expect(504);
    let mut client = stage.connect();
    client.get("/never").expect(408);
    client.get("/soon").expect(200).says("in time");
}

fn compressed(stage: &mut Stage) {
    assert_eq!(stage.get("/long").expect(200).body.len(), 6000);
    let answer = stage.ask("GET", "/long", GZIP, "").expect(200);
    assert_eq!(answer.field("content-encoding"), Some("gzip"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut text).unwrap();
    assert_eq!(text.len(), 6000);
    stage.ask("HEAD", "/long", GZIP, "").expect(200);
    stage.ask("GET", "/short", GZIP, "").expect(200);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(br#"{"name":"compressed"}"#).unwrap();
    let body = encoder.finish().unwrap();
    let fields = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    stage.post("/", fields, &body).expect(200).says(r#"{"data":{"name":"compressed"}}"#);
    stage.post("/", fields, b"not compressed").expect(400);
    stage.post("/", "Content-Type: application/json\r\nContent-Encoding: x\r\n", "{}").expect(415);
}

fn cors(stage: &mut Stage) {
    let preflight = |origin: &str| format!("Origin: {origin}\r\nAccess-Control-Request-Method: DELETE\r\n");
    for path in ["/json", "/open"] {
        for origin in ["http://localhost:3000", "http://evil.example"] {
            stage.ask("OPTIONS", path, &preflight(origin), "").expect(200);
            stage.ask("GET", path, &format!("Origin: {origin}\r\n"), "").expect(200);
        }
    }
    let answer = stage.ask("GET", "/json", "Origin: http://localhost:3000\r\n", "");
    assert_eq!(answer.field("access-control-allow-origin"), Some("http://localhost:3000"));
}

fn traced(stage: &mut Stage) {
    stage.get("/").expect(200);
    stage.get("/fails").expect(500);
    stage.get("/none").expect(404);
    let log = stage.get("/log").expect(200);
    assert!(log.text().starts_with("> GET /\n< 200 OK\n"), "{log:?}");
}

fn request_ids(stage: &mut Stage) {
    let mut client = stage.connect();
    assert_eq!(client.get("/").field("x-request-id"), Some("1"));
    assert_eq!(client.ask("GET", "/", "X-Request-Id: given\r\n", "").field("x-request-id"), Some("given"));
    assert_eq!(client.ask("GET", "/", "X-Tenant: acme\r\n", "").field("x-tenant"), Some("acme"));
    client.get("/none").expect(404);
}

fn guarded(stage: &mut Stage) {
    stage.get("/key").expect(403).says("no key");
    stage.ask("GET", "/key", "X-Api-Key: the key\r\n", "").expect(200);
    stage.ask("GET", "/json", "Accept: text/html\r\n", "").expect(406);
    stage.ask("GET", "/json", "Accept: application/*\r\n", "").expect(200);
    stage.ask("GET", "/marked", "Authorization: secret\r\n", "").expect(200).says("Some(Sensitive)");
    assert_eq!(stage.get("/none").expect(404).field("server"), Some("mine"));
}

fn normalised(stage: &mut Stage) {
    stage.get("/foo").expect(200).says("/foo /foo");
    stage.get("/foo/").expect(200);
    stage.get("/foo//?a=1").expect(200);
    stage.get("/").expect(200);
    stage.get("//").expect(200);
    stage.get("/old/name").expect(200).says("/new/name");
    stage.get("/bar/").expect(404);
}
