//! Entity tags: nobody overwrites what he has not seen, and nobody is sent what he has (RFC 9110, section 13).

use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;

use crate::service::{Answer, Service};
use crate::stores::Place;

const ROUNDS: usize = 50;

async fn put(service: &Service, path: &str, name: &str, if_match: &str) -> Answer {
    service.send("PUT", path, &[("if-match", if_match)], &json!({"name": name})).await
}

async fn a_user_has_a_tag_that_changes_with_each_replacement(place: Place) {
    let service = Service::at(place).await;
    let created = service.post_user(&json!({"name": "a"})).await;
    let path = created.header("location").to_owned();
    let mut tags = vec![created.etag().to_owned()];
    for name in ["b", "a", "a"] {
        let shown = service.get(&path).await;
        assert_eq!(shown.etag(), tags.last().unwrap(), "the same as in the answer to the change");
        assert_eq!(service.method("HEAD", &path).await.etag(), shown.etag());
        let replaced = service.send("PUT", &path, &[], &json!({"name": name})).await;
        assert!(!tags.contains(&replaced.etag().to_owned()), "{tags:?}");
        tags.push(replaced.etag().to_owned());
    }
}

async fn a_change_is_made_if_if_match_names_what_is_there(place: Place) {
    let service = Service::at(place).await;
    let path = service.create("a").await;
    let first = service.get(&path).await.etag().to_owned();
    let opaque = first.trim_matches('"');
    let second = put(&service, &path, "b", &first).await;
    assert_eq!(second.status, StatusCode::OK, "{:?}", second.body);
    let second = second.etag().to_owned();
    for wrong in [
        first.clone(),
        format!("{first}, \"another\""),
        format!("W/{second}"),
        "\"\"".to_owned(),
        format!("\"{opaque} or so\"").replace(' ', "-"),
        "\"99999999999999999999\"".to_owned(),
    ] {
        let answer = put(&service, &path, "c", &wrong).await;
        assert_eq!(answer.problem(StatusCode::PRECONDITION_FAILED), ["If-Match"], "{wrong}");
        assert!(
            answer.json()["detail"].as_str().unwrap().contains("a weak tag, such as W/\"3\", never does"),
            "{answer:?}"
        );
        for method in ["DELETE", "GET"] {
            let answer = service.ask_with(method, &path, &[("if-match", &wrong)]).await;
            assert_eq!(answer.problem(StatusCode::PRECONDITION_FAILED), ["If-Match"], "{wrong}");
        }
    }
    let shown = service.get(&path).await;
    assert_eq!((&shown.json()["name"], shown.etag()), (&json!("b"), &*second), "nothing was changed");
    for (n, right) in [second, "*".to_owned()].into_iter().enumerate() {
        assert_eq!(put(&service, &path, &format!("right {n}"), &right).await.status, StatusCode::OK, "{right}");
    }
    let last = service.get(&path).await.etag().to_owned();
    let list = format!("\"another\", W/\"1\" ,{last}");
    let deleted = service.ask_with("DELETE", &path, &[("if-match", &list)]).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "one of a list is enough");
    let gone = put(&service, &path, "d", "*").await;
    gone.problem(StatusCode::NOT_FOUND);
}

async fn a_change_is_made_if_if_none_match_does_not_name_what_is_there(place: Place) {
    let service = Service::at(place).await;
    let path = service.create("a").await;
    let tag = service.get(&path).await.etag().to_owned();
    let either = ["If-Match", "If-None-Match"];
    for (fields, at_fault) in [
        (&[("if-none-match", &*tag)][..], &either[1..]),
        (&[("if-none-match", &format!("\"another\", W/{tag}"))], &either[1..]),
        (&[("if-none-match", "*")], &either[1..]),
        (&[("if-none-match", &tag), ("if-match", "*")], &either[1..]),
        (&[("if-none-match", &tag), ("if-match", &tag)], &either),
        (&[("if-none-match", "\"another\""), ("if-match", "\"another\"")], &either),
    ] {
        let answer = service.send("PUT", &path, fields, &json!({"name": "b"})).await;
        assert_eq!(answer.problem(StatusCode::PRECONDITION_FAILED), at_fault, "{fields:?}");
        let answer = service.ask_with("DELETE", &path, fields).await;
        assert_eq!(answer.problem(StatusCode::PRECONDITION_FAILED), at_fault, "{fields:?}");
    }
    assert_eq!(service.get(&path).await.etag(), tag, "nothing was changed");
    let answer = service.send("PUT", &path, &[("if-none-match", &tag)], &json!({"name": "a"})).await;
    assert!(!answer.json()["detail"].as_str().unwrap().contains("If-Match"), "{answer:?}");
    let unwanted = [("if-none-match", "\"another\", \"99\"")];
    assert_eq!(service.send("PUT", &path, &unwanted, &json!({"name": "b"})).await.status, StatusCode::OK);
    assert_eq!(service.ask_with("DELETE", &path, &[("if-none-match", &tag)]).await.status, StatusCode::NO_CONTENT);
    let gone = service.ask_with("DELETE", &path, &unwanted).await;
    gone.problem(StatusCode::NOT_FOUND);
}

/// Another change that comes between does not make a condition fail that holds before and after it.
async fn if_none_match_fails_for_nothing_but_what_it_names(place: Place) {
    let service = Service::at(place).await;
    let path = service.create("user").await;
    for round in 0..ROUNDS {
        let unwanted = [("if-none-match", "\"another\"")];
        let names = [1, 2, 3].map(|n| json!({"name": format!("{round} {n}")}));
        let put = |n: usize| service.send("PUT", &path, &unwanted, &names[n]);
        let (one, other, third) = tokio::join!(put(0), put(1), put(2));
        assert_eq!([one.status, other.status, third.status], [StatusCode::OK; 3], "round {round}");
    }
}

/// See `docs/rfc.md`: the answer is the new representation, so that it may have that one's tag.
async fn the_answer_to_a_replacement_is_the_user_with_the_tag_of_what_it_shows(place: Place) {
    let service = Service::at(place).await;
    let path = service.create("a").await;
    let replaced = service.send("PUT", &path, &[], &json!({"email": "x@y", "name": " as it \u{e9} came "})).await;
    assert_eq!(replaced.header("content-location"), path);
    let shown = service.get(&path).await;
    assert_eq!((&replaced.body, replaced.etag()), (&shown.body, shown.etag()));
    let stored = shown.json();
    assert_eq!(
        (&stored["name"], &stored["email"]),
        (&json!(" as it \u{e9} came "), &json!("x@y")),
        "nothing is normalised"
    );
}

async fn several_fields_are_one_list(place: Place) {
    let service = Service::at(place).await;
    let path = service.create("a").await;
    let tag = service.get(&path).await.etag().to_owned();
    let fields = [("if-match", "\"another\""), ("if-match", &*tag)];
    assert_eq!(service.send("PUT", &path, &fields, &json!({"name": "b"})).await.status, StatusCode::OK);
    let again = service.send("PUT", &path, &fields, &json!({"name": "c"})).await;
    again.problem(StatusCode::PRECONDITION_FAILED);
}

async fn a_malformed_condition_of_a_change_is_400_and_nothing_is_changed(place: Place) {
    let service = Service::at(place).await;
    let path = service.create("a").await;
    let tag = service.get(&path).await.etag().to_owned();
    for wrong in ["", ",", "1", "\"1", "1\"", "w/\"1\"", "\"1\" \"2\"", "*, *", "* \"1\"", "'1'"] {
        let answer = put(&service, &path, "b", wrong).await;
        assert_eq!(answer.problem(StatusCode::BAD_REQUEST), ["If-Match"], "{wrong}");
        let answer = service.ask_with("DELETE", &path, &[("if-match", wrong)]).await;
        assert_eq!(answer.problem(StatusCode::BAD_REQUEST), ["If-Match"], "{wrong}");
    }
    assert_eq!(service.get(&path).await.etag(), tag);
}

async fn what_the_caller_has_is_304(place: Place) {
    let service = Service::at(place).await;
    let path = service.create("a").await;
    let tag = service.get(&path).await.etag().to_owned();
    for known in [tag.clone(), format!("W/{tag}"), "*".to_owned(), format!("\"another\", {tag}")] {
        for method in ["GET", "HEAD"] {
            let answer = service.ask_with(method, &path, &[("if-none-match", &known)]).await;
            assert_eq!((answer.status, answer.body.len()), (StatusCode::NOT_MODIFIED, 0), "{known}");
            assert_eq!(answer.etag(), tag);
            assert_eq!(answer.header(CONTENT_TYPE), "");
        }
    }
    for unknown in ["\"another\"", "W/\"0\"", "nonsense", ""] {
        let answer = service.ask_with("GET", &path, &[("if-none-match", unknown)]).await;
        assert_eq!((answer.status, &answer.json()["name"]), (StatusCode::OK, &json!("a")), "{unknown}");
    }
    put(&service, &path, "b", &tag).await;
    let changed = service.ask_with("GET", &path, &[("if-none-match", &tag)]).await;
    assert_eq!((changed.status, &changed.json()["name"]), (StatusCode::OK, &json!("b")));
    let gone = service.ask_with("GET", "/api/users/99", &[("if-none-match", "*")]).await;
    gone.problem(StatusCode::NOT_FOUND);
}

async fn of_replacements_that_have_seen_the_same_exactly_one_wins(place: Place) {
    let service = Service::at(place).await;
    let path = service.create("user").await;
    let mut tag = service.get(&path).await.etag().to_owned();
    for round in 0..ROUNDS {
        let names = [1, 2].map(|n| format!("{round} {n}"));
        let (one, other) = tokio::join!(put(&service, &path, &names[0], &tag), put(&service, &path, &names[1], &tag));
        let (won, lost) = if one.status == StatusCode::OK { (one, other) } else { (other, one) };
        assert_eq!(won.status, StatusCode::OK, "round {round}: {won:?}");
        lost.problem(StatusCode::PRECONDITION_FAILED);
        let shown = service.get(&path).await;
        assert_eq!((shown.json(), shown.etag()), (won.json(), won.etag()), "round {round}");
        tag = won.etag().to_owned();
    }
}

on_both_stores![
    a_user_has_a_tag_that_changes_with_each_replacement,
    a_change_is_made_if_if_match_names_what_is_there,
    a_change_is_made_if_if_none_match_does_not_name_what_is_there,
    if_none_match_fails_for_nothing_but_what_it_names,
    the_answer_to_a_replacement_is_the_user_with_the_tag_of_what_it_shows,
    several_fields_are_one_list,
    a_malformed_condition_of_a_change_is_400_and_nothing_is_changed,
    what_the_caller_has_is_304,
    of_replacements_that_have_seen_the_same_exactly_one_wins,
];
