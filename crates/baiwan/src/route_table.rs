//! The templates of a server's routes, each with a number: what a record carries, and what a metric is found by.
//!
//! A template is entered once, when the first request of its route is served; from then on a core finds its number in a table of its own
//! (`call_scope`), and a number leads back to the template without a lock.
//!
//! The invariant: a number stands for one template while the server runs, and there are at most `ROUTES_MAX`.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Templates that are told apart. The routes of a server that has more are all `other`.
pub(crate) const ROUTES_MAX: usize = 1000;

/// Numbers that stand for no template of their own: `unmatched` and `other`.
const RESERVED: usize = 2;

const _: () = assert!(RESERVED + ROUTES_MAX <= u16::MAX as usize);

/// The number of a route of this server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct RouteNumber(u16);

impl RouteNumber {
    /// No route's template is known.
    pub(crate) const UNMATCHED: Self = Self(0);
    /// One of a server with more than [`ROUTES_MAX`] templates, which came later than those.
    pub(crate) const OTHER: Self = Self(1);

    /// The number by itself.
    #[cfg(feature = "metrics")]
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// As it stands in `CoreStatus::polling`.
    pub(crate) fn as_polling(self) -> u32 {
        u32::from(self.0) + 1
    }

    /// The route of a core that `CoreStatus::polling` speaks of; `None` if no handler is polled there.
    #[cfg(any(test, feature = "metrics"))]
    #[allow(dead_code, reason = "it is for whoever watches a core from another thread")]
    pub(crate) fn from_polling(polling: u32) -> Option<Self> {
        u16::try_from(polling.checked_sub(1)?).ok().map(Self)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    /// Made for the first template.
    templates: OnceLock<Box<[OnceLock<Box<str>>]>>,
    numbers: Mutex<HashMap<Box<str>, RouteNumber>>,
}

impl RouteTable {
    /// The number of a template. This takes a lock and may allocate, so cores keep what it says.
    pub(crate) fn intern(&self, template: &str) -> RouteNumber {
        // Nothing panics while the lock is held, and the map is valid at every moment.
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = numbers.get(template) {
            return *number;
        }
        let place = numbers.len();
        let templates = self.templates.get_or_init(|| (0..ROUTES_MAX).map(|_| OnceLock::new()).collect());
        let (Some(slot), Ok(number)) = (templates.get(place), u16::try_from(RESERVED + place)) else {
            return RouteNumber::OTHER;
        };
        slot.get_or_init(|| template.into());
        numbers.insert(template.into(), RouteNumber(number));
        RouteNumber(number)
    }

    /// The template of a number, or what stands for it: `unmatched`, `other`.
    #[inline]
    pub(crate) fn template(&self, number: RouteNumber) -> &str {
        match number {
            RouteNumber::UNMATCHED => "unmatched",
            RouteNumber::OTHER => "other",
            RouteNumber(number) => self.written(usize::from(number) - RESERVED).unwrap_or("other"),
        }
    }

    fn written(&self, place: usize) -> Option<&str> {
        Some(self.templates.get()?.get(place)?.get()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_keeps_its_number_and_what_comes_after_the_maximum_is_other() {
        let table = RouteTable::default();
        assert_eq!(table.template(RouteNumber::UNMATCHED), "unmatched");
        let templates: Vec<String> = (0..ROUTES_MAX).map(|number| format!("/routes/{number}/{{id}}")).collect();
        let numbers: Vec<RouteNumber> = templates.iter().map(|template| table.intern(template)).collect();
        for (template, number) in templates.iter().zip(&numbers) {
            assert_eq!((table.intern(template), table.template(*number)), (*number, template.as_str()));
            assert_eq!(RouteNumber::from_polling(number.as_polling()), Some(*number));
        }
        let late = table.intern("/one/too/many");
        assert_eq!((late, table.template(late)), (RouteNumber::OTHER, "other"));
        assert_eq!(table.intern(&templates[7]), numbers[7]);
        assert_eq!(RouteNumber::from_polling(0), None);
    }
}
