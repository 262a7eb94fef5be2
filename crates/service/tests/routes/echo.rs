//! `POST /echo` gives the text back while it comes.

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::service::{Channel, Service, request};

#[tokio::test]
async fn echo_answers_with_the_text() {
    let service = Service::anywhere(&[]).await;
    for text in ["", "hello", "百万\r\n\0"] {
        let answer = service.ask(request("POST", "/echo", &[], text.into())).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header(CONTENT_TYPE), "text/plain; charset=utf-8");
        assert_eq!(answer.header(CONTENT_LENGTH), (text.len() + 6).to_string());
        assert_eq!(answer.body, format!("Echo: {text}"));
    }
}

#[tokio::test]
async fn echo_answers_before_the_text_has_ended() {
    let service = Service::anywhere(&[]).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let request = request("POST", "/echo", &[], Body::new(Channel(receiver)));
    sender.send(Bytes::from("one")).await.unwrap();
    let mut body = service.router.clone().oneshot(request).await.unwrap().into_body();
    for (sent, expected) in [("", "Echo: "), ("", "one"), ("two", "two")] {
        if !sent.is_empty() {
            sender.send(Bytes::from(sent)).await.unwrap();
        }
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, expected);
    }
    // Nothing is asked for ahead: one text fits into the channel, the next has to wait for a reader.
    sender.send(Bytes::from("three")).await.unwrap();
    assert!(sender.try_send(Bytes::from("four")).is_err());
    drop(sender);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "three");
}
