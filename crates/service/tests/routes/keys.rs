//! `Idempotency-Key`: a creation whose answer was lost can be asked for again.

use http::StatusCode;
use http::header::LOCATION;
use serde_json::{Value, json};

use crate::service::{Answer, Service, request};
use crate::stores::Place;

const KEY: &str = "idempotency-key";

async fn post(service: &Service, key: &str, user: &Value) -> Answer {
    service.send("POST", "/api/users", &[(KEY, key)], user).await
}

/// What a caller sees of an answer.
fn seen(answer: &Answer) -> (StatusCode, Value, String, String) {
    (answer.status, answer.json(), answer.header(LOCATION).to_owned(), answer.etag().to_owned())
}

async fn the_same_key_and_fields_get_the_first_answer_and_store_nothing(place: Place) {
    let service = Service::at(place).await;
    let user = json!({"name": "Ada", "email": "ada@example.org"});
    let first = post(&service, "8e03978e-40d5-43dd", &user).await;
    assert_eq!(first.status, StatusCode::CREATED, "{:?}", first.body);
    // Members in another order, and the address spelled another way, are the same fields.
    let fields = [(KEY, "8e03978e-40d5-43dd"), ("content-type", "application/json")];
    let spelled = r#" {"email":"\u0061da@example.org", "name":"Ada"} "#;
    let same = service.ask(request("POST", "/api/users", &fields, spelled.into())).await;
    assert_eq!(seen(&same), seen(&first));
    let path = first.header(LOCATION).to_owned();
    service.send("PUT", &path, &[], &json!({"name": "Lovelace"})).await;
    assert_eq!(seen(&post(&service, "8e03978e-40d5-43dd", &user).await), seen(&first), "after a replacement");
    assert_eq!(service.names().await, ["Lovelace"]);
    service.method("DELETE", &path).await;
    assert_eq!(seen(&post(&service, "8e03978e-40d5-43dd", &user).await), seen(&first), "after a deletion");
    assert_eq!(service.names().await, [""; 0]);
}

async fn a_key_with_other_fields_is_422_and_named(place: Place) {
    let service = Service::at(place).await;
    let first = post(&service, "key", &json!({"name": "a"})).await;
    for other in [json!({"name": "b"}), json!({"name": "a", "email": "x@y"})] {
        let refused = post(&service, "key", &other).await;
        assert_eq!(refused.problem(StatusCode::UNPROCESSABLE_ENTITY), ["Idempotency-Key"]);
    }
    let same = post(&service, "key", &json!({"name": "a", "email": null})).await;
    assert_eq!(seen(&same), seen(&first), "null is the same as absent");
    assert_eq!(service.names().await, ["a"]);
}

async fn a_creation_that_was_refused_leaves_its_key_free(place: Place) {
    let service = Service::at(place).await;
    service.create("taken").await;
    post(&service, "key", &json!({"name": "taken"})).await.problem(StatusCode::CONFLICT);
    post(&service, "key", &json!({"name": ""})).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
    let created = post(&service, "key", &json!({"name": "free"})).await;
    assert_eq!(created.status, StatusCode::CREATED, "{:?}", created.body);
}

async fn a_key_is_quoted_or_bare_and_means_the_same(place: Place) {
    let service = Service::at(place).await;
    let longest = "k".repeat(255);
    for (n, key) in ["a", "a,b;c=1", "8e03978e-40d5-43dd-bc93-6894a57f9324", &*longest].into_iter().enumerate() {
        let user = json!({"name": format!("user {n}")});
        let bare = post(&service, key, &user).await;
        assert_eq!(bare.status, StatusCode::CREATED, "{key}: {:?}", bare.body);
        assert_eq!(seen(&post(&service, &format!("\"{key}\""), &user).await), seen(&bare), "{key}");
    }
    assert_eq!(service.names().await.len(), 4);
}

async fn a_malformed_key_is_400_and_nothing_is_stored(place: Place) {
    let service = Service::at(place).await;
    let too_long = "k".repeat(256);
    for wrong in ["", "a b", "\"", "\"\"", "\"a", "\"a\";b", &*too_long] {
        let refused = post(&service, wrong, &json!({"name": "a"})).await;
        assert_eq!(refused.problem(StatusCode::BAD_REQUEST), ["Idempotency-Key"], "{wrong}");
    }
    let twice = service.send("POST", "/api/users", &[(KEY, "a"), (KEY, "a")], &json!({"name": "a"})).await;
    assert_eq!(twice.problem(StatusCode::BAD_REQUEST), ["Idempotency-Key"]);
    assert_eq!(service.names().await, [""; 0]);
}

async fn creations_at_the_same_time_with_one_key_make_one_user(place: Place) {
    let service = Service::at(place).await;
    for round in 0..20 {
        let (user, key) = (json!({"name": format!("user {round}")}), format!("key-{round}"));
        let (one, two, three) =
            tokio::join!(post(&service, &key, &user), post(&service, &key, &user), post(&service, &key, &user));
        assert_eq!(one.status, StatusCode::CREATED, "round {round}: {one:?}");
        assert_eq!((seen(&two), seen(&three)), (seen(&one), seen(&one)), "round {round}");
    }
    assert_eq!(service.names().await.len(), 20);
}

on_both_stores![
    the_same_key_and_fields_get_the_first_answer_and_store_nothing,
    a_key_with_other_fields_is_422_and_named,
    a_creation_that_was_refused_leaves_its_key_free,
    a_key_is_quoted_or_bare_and_means_the_same,
    a_malformed_key_is_400_and_nothing_is_stored,
    creations_at_the_same_time_with_one_key_make_one_user,
];
