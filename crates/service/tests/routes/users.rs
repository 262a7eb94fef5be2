//! `/api/users`: users are listed, created, shown, replaced and deleted.

use http::StatusCode;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use serde_json::{Value, json};

use crate::service::Service;
use crate::stores::Place;

async fn a_created_user_is_where_location_says(place: Place) {
    let service = Service::at(place).await;
    let created = service.post_user(&json!({"name": "Ada Lovelace 百万", "email": "ada@example.org"})).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert_eq!(created.header(CONTENT_TYPE), "application/json");
    let user = created.json();
    assert_eq!(user["name"], "Ada Lovelace 百万");
    assert_eq!(user["email"], "ada@example.org");
    assert!(user["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(created.header(LOCATION), format!("/api/users/{}", user["id"]));
    let shown = service.get(created.header(LOCATION)).await;
    assert_eq!((shown.status, shown.json()), (StatusCode::OK, user.clone()));
    let listed = service.get("/api/users").await;
    assert_eq!((listed.status, listed.json()), (StatusCode::OK, json!({"users": [user], "next": null})));
}

async fn right_users_are_stored(place: Place) {
    let service = Service::at(place).await;
    for (n, (media_type, user)) in [
        ("application/json", json!({"name": "a", "email": null})),
        ("application/json; charset=utf-8", json!({"name": "é".repeat(200)})),
        ("application/vnd.user+json", json!({"name": " spaces stay "})),
        ("application/json", json!({"name": "b", "email": "x@y"})),
        ("application/json", json!({"name": "'; DROP TABLE users; --", "email": "'or'1'='1@example.org"})),
    ]
    .into_iter()
    .enumerate()
    {
        let created = service.post(media_type, user.to_string()).await;
        assert_eq!(created.status, StatusCode::CREATED, "{n}: {:?}", created.body);
        assert_eq!(created.json()["name"], user["name"]);
        assert_eq!(created.json()["email"], user.get("email").cloned().unwrap_or_default());
    }
    assert_eq!(service.names().await.len(), 5);
}

async fn pages_follow_each_other_without_gap_or_repetition(place: Place) {
    let service = Service::at(place).await;
    for n in 0..25 {
        service.create(&format!("user {n}")).await;
    }
    let page = service.get("/api/users").await.json();
    assert_eq!(page["users"].as_array().unwrap().len(), 20, "the default");
    let (mut names, mut path) = (Vec::new(), "/api/users?limit=10".to_owned());
    for length in [10, 10, 5] {
        let page = service.get(&path).await.json();
        let users = page["users"].as_array().unwrap().clone();
        assert_eq!(users.len(), length);
        names.extend(users.iter().map(|user| user["name"].as_str().unwrap().to_owned()));
        let next = page["next"].as_str().map(str::to_owned);
        assert_eq!(next.is_some(), length == 10);
        path = format!("/api/users?limit=10&after={}", next.unwrap_or_default());
    }
    assert_eq!(names, (0..25).map(|n| format!("user {n}")).collect::<Vec<_>>());
    // A page that ends with the last user is the last page.
    assert_eq!(service.get("/api/users?limit=25").await.json()["next"], Value::Null);
}

async fn pages_go_on_while_users_come_and_go(place: Place) {
    let service = Service::at(place).await;
    let mut paths = Vec::new();
    for n in 0..30 {
        paths.push(service.create(&format!("user {n:02}")).await);
    }
    let (mut names, mut path) = (Vec::new(), "/api/users?limit=5".to_owned());
    for round in 0.. {
        let page = service.get(&path).await.json();
        names.extend(page["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/users?limit=5&after={next}");
        // The user that the next page begins after, and the first one of those that were shown.
        for gone in [format!("/api/users/{next}"), paths[round * 5].clone()] {
            assert_eq!(service.method("DELETE", &gone).await.status, StatusCode::NO_CONTENT);
        }
        if round < 3 {
            service.create(&format!("younger {round}")).await;
        }
    }
    let expected = (0..30).map(|n| format!("user {n:02}")).chain((0..3).map(|n| format!("younger {n}")));
    assert_eq!(names, expected.collect::<Vec<_>>(), "each user once, the younger ones at the end");
}

async fn a_replaced_user_keeps_its_id_and_its_date(place: Place) {
    let service = Service::at(place).await;
    let created = service.post_user(&json!({"name": "Ada", "email": "ada@example.org"})).await;
    let path = created.header(LOCATION).to_owned();
    // What is not given is not kept: it is a replacement.
    let replaced = service.send("PUT", &path, &[], &json!({"name": "Lovelace"})).await;
    assert_eq!(replaced.status, StatusCode::OK, "{:?}", replaced.body);
    let (before, after) = (created.json(), replaced.json());
    let expected = json!({"id": before["id"], "name": "Lovelace", "email": null, "created_at": before["created_at"]});
    assert_eq!(after, expected);
    assert_eq!(service.get(&path).await.json(), expected);
    assert_eq!(service.names().await, ["Lovelace"]);
    // Its own name is not taken.
    assert_eq!(service.send("PUT", &path, &[], &json!({"name": "Lovelace"})).await.status, StatusCode::OK);
    service.create("Ada").await;
}

async fn a_deleted_user_is_gone_and_its_id_is_never_given_again(place: Place) {
    let service = Service::at(place).await;
    service.create("first").await;
    let path = service.create("last").await;
    let deleted = service.method("DELETE", &path).await;
    assert_eq!((deleted.status, deleted.body.len()), (StatusCode::NO_CONTENT, 0));
    service.get(&path).await.problem(StatusCode::NOT_FOUND);
    service.method("DELETE", &path).await.problem(StatusCode::NOT_FOUND);
    service.send("PUT", &path, &[], &json!({"name": "back"})).await.problem(StatusCode::NOT_FOUND);
    assert_eq!(service.names().await, ["first"]);
    assert_ne!(service.create("last").await, path, "the name is free, the id is not");
}

async fn a_taken_name_is_409(place: Place) {
    let service = Service::at(place).await;
    service.create("Ada").await;
    let path = service.create("ada").await;
    let before = service.get(&path).await;
    let ada = json!({"name": "Ada"});
    assert_eq!(service.post_user(&ada).await.problem(StatusCode::CONFLICT), ["name"]);
    assert_eq!(service.send("PUT", &path, &[], &ada).await.problem(StatusCode::CONFLICT), ["name"]);
    let after = service.get(&path).await;
    assert_eq!((after.json(), after.etag()), (before.json(), before.etag()), "nothing was changed");
    assert_eq!(service.names().await, ["Ada", "ada"], "case counts");
}

async fn unknown_users_are_404(place: Place) {
    let service = Service::at(place).await;
    service.create("Ada").await;
    for id in
        ["0", "2", "9223372036854775807", "9223372036854775808", "99999999999999999999", "-1", "+1", "x", "1.0", "%ff"]
    {
        let path = format!("/api/users/{id}");
        for answer in [
            service.get(&path).await,
            service.method("DELETE", &path).await,
            service.send("PUT", &path, &[], &json!({"name": "b"})).await,
        ] {
            assert_eq!(answer.problem(StatusCode::NOT_FOUND), ["id"], "{id}: not as where nothing is at the path");
            assert_eq!(answer.json()["detail"], "There is no user with this id.");
        }
    }
    assert_eq!(service.names().await, ["Ada"]);
}

async fn head_is_get_without_the_body(place: Place) {
    let service = Service::at(place).await;
    let user = service.create("Ada").await;
    for path in ["/", "/docs", "/openapi.json", "/health/live", "/health/ready", "/api/users", &*user] {
        let (get, head) = (service.get(path).await, service.method("HEAD", path).await);
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0), "{path}");
        assert_eq!(head.header(CONTENT_TYPE), get.header(CONTENT_TYPE));
        assert_eq!(head.header(CONTENT_LENGTH), get.body.len().to_string());
        assert_eq!(head.header("etag"), get.header("etag"));
    }
    assert_eq!(service.method("HEAD", "/health").await.status, StatusCode::OK);
    assert_eq!(service.method("HEAD", "/api/users/7").await.status, StatusCode::NOT_FOUND);
}

on_both_stores![
    a_created_user_is_where_location_says,
    right_users_are_stored,
    pages_follow_each_other_without_gap_or_repetition,
    pages_go_on_while_users_come_and_go,
    a_replaced_user_keeps_its_id_and_its_date,
    a_deleted_user_is_gone_and_its_id_is_never_given_again,
    a_taken_name_is_409,
    unknown_users_are_404,
    head_is_get_without_the_body,
];

#[tokio::test]
async fn a_wrong_query_is_400_and_names_the_parameter() {
    let service = Service::anywhere(&[]).await;
    for (query, field) in
        [("limit=0", "limit"), ("limit=101", "limit"), ("after=x", "after"), ("limit=1&limit=2", "limit")]
    {
        let answer = service.get(&format!("/api/users?{query}")).await;
        assert_eq!(answer.problem(StatusCode::BAD_REQUEST), [field], "{query}");
    }
}

#[tokio::test]
async fn unknown_paths_are_404() {
    let service = Service::anywhere(&[]).await;
    for path in ["/nope", "/api", "/api/users/", "/api/users/1/", "/health/", "/docs/", "/docs/nope", "/openapi"] {
        let answer = service.get(path).await;
        assert!(answer.problem(StatusCode::NOT_FOUND).is_empty(), "{path}");
        assert_eq!(answer.json()["detail"], "There is nothing at this path.");
    }
    service.method("POST", "/nope").await.problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn other_methods_are_405_with_allow() {
    let service = Service::anywhere(&[]).await;
    for (method, path, allowed) in [
        ("DELETE", "/", "GET,HEAD"),
        ("POST", "/docs", "GET,HEAD"),
        ("PUT", "/openapi.json", "GET,HEAD"),
        ("PUT", "/api/users", "GET,HEAD,POST"),
        ("GET", "/echo", "POST"),
        ("HEAD", "/echo", "POST"),
        ("POST", "/health", "GET,HEAD"),
        ("POST", "/api/users/1", "DELETE,GET,HEAD,PUT"),
        ("PATCH", "/api/users/1", "DELETE,GET,HEAD,PUT"),
        ("OPTIONS", "/api/users", "GET,HEAD,POST"),
        ("TRACE", "/api/users", "GET,HEAD,POST"),
    ] {
        let answer = service.method(method, path).await;
        let mut methods: Vec<&str> = answer.header(ALLOW).split(',').collect();
        methods.sort_unstable();
        assert_eq!(methods.join(","), allowed, "{method} {path}");
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        if method != "HEAD" {
            answer.problem(StatusCode::METHOD_NOT_ALLOWED);
        }
    }
}
