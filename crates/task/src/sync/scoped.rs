//! A value that is lent to a thread, in the models: what crate `scoped-tls` gives, with the threads of a model checker.
//!
//! It keeps a clone for as long as the value is lent, since only unsafe code could keep a reference.

macro_rules! scoped_thread_local {
    (static $name:ident: $type:ty) => {
        static $name: Lent = Lent;

        struct Lent;

        impl Lent {
            fn swap(value: Option<$type>) -> Option<$type> {
                $crate::sync::thread_local! {
                    static LENT: std::cell::Cell<Option<$type>> = std::cell::Cell::new(None);
                }
                LENT.with(|lent| lent.replace(value))
            }

            /// `code` must catch what unwinds.
            fn set<R>(&self, value: &$type, code: impl FnOnce() -> R) -> R {
                let before = Self::swap(Some(value.clone()));
                let outcome = code();
                drop(Self::swap(before));
                outcome
            }

            fn is_set(&self) -> bool {
                let value = Self::swap(None);
                let is_set = value.is_some();
                drop(Self::swap(value));
                is_set
            }

            fn with<R>(&self, code: impl FnOnce(&$type) -> R) -> R {
                let value = Self::swap(None).expect("asked before");
                let outcome = code(&value);
                drop(Self::swap(Some(value)));
                outcome
            }
        }
    };
}

pub(crate) use scoped_thread_local;
