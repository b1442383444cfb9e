//! Keeps everything that is traced on one thread: spans, events, and each of their fields.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// What was traced since it was made, by the thread that made it, at every level.
#[derive(Clone, Default)]
pub(crate) struct Capture(Arc<Mutex<Kept>>);

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) spans: Vec<Span>,
    pub(crate) events: Vec<Told>,
    /// The spans that the thread is in, from the outermost.
    entered: Vec<usize>,
}

pub(crate) struct Span {
    pub(crate) target: &'static str,
    pub(crate) name: &'static str,
    pub(crate) fields: Fields,
    /// The number of the span around it.
    pub(crate) parent: Option<usize>,
    pub(crate) is_closed: bool,
    handles: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) target: &'static str,
    pub(crate) level: Level,
    pub(crate) fields: Fields,
    /// The number of the span that it was told in.
    pub(crate) span: Option<usize>,
}

/// What was recorded, by name; a span's field may be recorded again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) BTreeMap<&'static str, String>);

impl Capture {
    /// Until the guard is dropped.
    pub(crate) fn start() -> (Capture, DefaultGuard) {
        let capture = Capture::default();
        (capture.clone(), tracing::subscriber::set_default(capture))
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        // After a test's panic it is still asked, by what is dropped on the way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The library's own events with this message.
    pub(crate) fn told(&self, message: &str) -> Vec<Told> {
        let kept = self.kept();
        let is_it = |told: &&Told| told.target == "tenure" && told.fields.get("message") == Some(message);
        kept.events.iter().filter(is_it).cloned().collect()
    }

    /// Everything, of every crate, as one text.
    pub(crate) fn text(&self) -> String {
        let kept = self.kept();
        let mut text = String::new();
        for span in &kept.spans {
            let _ = writeln!(text, "{} {} {:?}", span.target, span.name, span.fields);
        }
        for told in &kept.events {
            let _ = writeln!(text, "{} {} {:?}", told.target, told.level, told.fields);
        }
        text
    }
}

impl Kept {
    /// The library's calls of this method, each with its number.
    pub(crate) fn calls<'a>(&'a self, method: &'a str) -> impl Iterator<Item = (usize, &'a Span)> {
        let spans = self.spans.iter().enumerate();
        spans.filter(move |(_, span)| {
            (span.target, span.name) == ("tenure", "call") && span.fields.get("method") == Some(method)
        })
    }

    fn span(&mut self, id: &Id) -> &mut Span {
        &mut self.spans[number(id)]
    }
}

impl Fields {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// An id is never 0.
fn number(id: &Id) -> usize {
    usize::try_from(id.into_u64() - 1).expect("as many as fit into memory")
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut kept = self.kept();
        let parent = match attributes.is_contextual() {
            true => kept.entered.last().copied(),
            false => attributes.parent().map(number),
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        kept.spans.push(Span {
            target: attributes.metadata().target(),
            name: attributes.metadata().name(),
            fields,
            parent,
            is_closed: false,
            handles: 1,
        });
        Id::from_u64(kept.spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(&mut self.kept().span(id).fields);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut kept = self.kept();
        let span = kept.entered.last().copied();
        kept.events.push(Told {
            target: event.metadata().target(),
            level: *event.metadata().level(),
            fields,
            span,
        });
    }

    fn enter(&self, id: &Id) {
        self.kept().entered.push(number(id));
    }

    /// Whoever is in a span leaves it before another task is polled.
    fn exit(&self, id: &Id) {
        let left = self.kept().entered.pop();
        assert_eq!(
            left,
            Some(number(id)),
            "a span was left that is not the innermost"
        );
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.kept().span(id).handles += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut kept = self.kept();
        let span = kept.span(&id);
        span.handles -= 1;
        span.is_closed = span.handles == 0;
        span.is_closed
    }
}
