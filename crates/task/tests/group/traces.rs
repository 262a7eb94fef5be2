//! Names in traces.

use std::fmt::Write;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use baiwan_task::{Group, TaskGroup};
use tokio::task::yield_now;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::rig::{Fault, poll_once};

/// Writes down each span that is made, and in which span each event is.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Notes {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut note = format!("span {}", attributes.metadata().name());
        attributes.record(&mut Fields(&mut note));
        self.0.lock().unwrap().push(note);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut note = String::from("event");
        event.record(&mut Fields(&mut note));
        let span = context.lookup_current().map_or("none", |span| span.name());
        self.0.lock().unwrap().push(format!("{note} in {span}"));
    }
}

#[tokio::test]
async fn promise_named_tasks_are_spans_and_others_are_not() {
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            tracing::info!("dropped");
        }
    }
    let notes = Notes::default();
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(notes.clone()));
    let scope = TaskGroup::new().name("page").scope(async |group: Group<Fault>| {
        let named = group.name("posts").spawn(async {
            let _last = Last;
            yield_now().await;
            tracing::info!("asked");
            Ok(())
        });
        named.await.await?;
        let unnamed = group.spawn(async {
            tracing::info!("alone");
            Ok(())
        });
        unnamed.await.await?;
        Ok(())
    });
    scope.await.unwrap();
    TaskGroup::new()
        .scope(async |group: Group<Fault>| {
            group.name(String::from("user")).spawn(async { Ok(()) }).await;
            Ok(())
        })
        .await
        .unwrap();
    let told = notes.0.lock().unwrap().clone();
    let expected = [
        r#"span task group="page" task="posts""#,
        "event message=asked in task",
        "event message=dropped in task",
        "event message=alone in none",
        r#"span task task="user""#,
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn promise_who_watches_spans_and_panics_takes_no_place_away() {
    struct Panics;
    impl<S: Subscriber> Layer<S> for Panics {
        fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            panic!("of who watches");
        }
    }
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(Panics));
    let scope = TaskGroup::new().limit(1).scope(async |group: Group<Fault>| {
        let inside = group.clone();
        let asked = tokio::spawn(async move { inside.name("posts").spawn(async { Ok(()) }).await.await });
        assert!(asked.await.unwrap_err().is_panic());
        let mut next = pin!(group.spawn(async { Ok(7) }));
        let Poll::Ready(handle) = poll_once(next.as_mut(), &Arc::default()) else { panic!("the place is lost") };
        Ok(handle.await?)
    });
    assert_eq!(scope.await.unwrap(), 7);
}
