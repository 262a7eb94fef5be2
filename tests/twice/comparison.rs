//! Plays a script on both servers and compares what their clients saw.

use crate::stage::{Program, Server, Stage};

/// Plays a script on the same program on axum and on Baiwan; fails with what was seen, unless it was the same.
#[allow(clippy::print_stdout, reason = "a test that fails says on which server")]
#[track_caller]
pub(crate) fn compare<A, B>(axum: impl Program<A>, baiwan: impl Program<B>, script: impl Fn(&mut Stage)) {
    let play = |mut stage: Stage| {
        // Shown if the script fails.
        println!("on {:?}:", stage.server);
        script(&mut stage);
        stage.finish()
    };
    let on_axum = play(Stage::start(Server::Axum, axum));
    let on_baiwan = play(Stage::start(Server::Baiwan, baiwan));
    if let Some(difference) = difference(&on_axum, &on_baiwan) {
        panic!("{difference}");
    }
}

/// The first place where two records differ, and the one before it.
fn difference(on_axum: &[String], on_baiwan: &[String]) -> Option<String> {
    let same = on_axum.iter().zip(on_baiwan).take_while(|(one, other)| one == other).count();
    if same == on_axum.len() && same == on_baiwan.len() {
        return None;
    }
    let before = same.checked_sub(1).map_or("", |last| &on_axum[last]);
    let of = |record: &[String]| record.get(same).cloned().unwrap_or_else(|| "nothing".to_owned());
    Some(format!("after: {before}\naxum:   {}\nbaiwan: {}", of(on_axum), of(on_baiwan)))
}

/// A test for each script, a function of its name: of the program of that name, or with `script of program;` of another.
macro_rules! twice {
    ($($script:ident $(of $program:ident)?;)*) => {
        /// The scripts as tests.
        mod twice {
            $(#[test]
            fn $script() {
                crate::comparison::twice!(@compare $script $($program)?);
            })*
        }
    };
    (@compare $script:ident) => {
        crate::comparison::twice!(@compare $script $script);
    };
    (@compare $script:ident $program:ident) => {
        crate::comparison::compare(
            crate::on_axum::apps::$program::main,
            crate::on_baiwan::apps::$program::main,
            super::$script,
        );
    };
}
pub(crate) use twice;

#[test]
fn a_difference_of_any_part_of_an_answer_is_found() {
    use crate::answer::Answer;
    let answer = |line: &str, field: &str, body: &str, trailer: &str| Answer {
        line: line.to_owned(),
        fields: vec![("x".to_owned(), field.to_owned()), ("date".to_owned(), "any".to_owned())],
        body: body.into(),
        trailers: vec![trailer.to_owned()],
    };
    let record = |answer: &Answer| vec!["GET /".to_owned(), answer.normalised()];
    let one = record(&answer("HTTP/1.1 200 OK", "1", "body", "t: 1"));
    assert_eq!(difference(&one, &one.clone()), None);
    let long = "x".repeat(1000);
    let others = [
        answer("HTTP/1.1 201 OK", "1", "body", "t: 1"),
        answer("HTTP/1.1 200 OK", "2", "body", "t: 1"),
        answer("HTTP/1.1 200 OK", "1", "Body", "t: 1"),
        answer("HTTP/1.1 200 OK", "1", &long, "t: 1"),
        answer("HTTP/1.1 200 OK", "1", "body", "t: 2"),
    ];
    for other in &others {
        assert!(difference(&one, &record(other)).is_some(), "{other:?}");
    }
    assert!(difference(&one, &one[..1]).unwrap().ends_with("baiwan: nothing"));
    assert_ne!(
        others[3].normalised(),
        answer("HTTP/1.1 200 OK", "1", &long.replacen('x', "y", 1), "t: 1").normalised()
    );
}

#[test]
#[should_panic(expected = "baiwan: HTTP/1.1 200 OK")]
fn programs_that_differ_are_found_to() {
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;
    let one = |listener: TcpListener| async { axum::serve(listener, Router::new()).await };
    let app = || Router::new().route("/", get(|| async {}));
    let other = move |listener: TcpListener| async move { axum::serve(listener, app()).await };
    compare(one, other, |stage| {
        stage.get("/");
    });
}
