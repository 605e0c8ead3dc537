//! The way to what does not hold.

use super::alphabet::Event;
use super::property::Found;

/// A way to what does not hold.
#[derive(Debug)]
pub(crate) struct Way {
    /// The events, and which of the Arms and Reroutes of each failed.
    pub(crate) steps: Vec<(Event, u8)>,
    /// What was tried at the end, when that is no event.
    pub(crate) tried: Option<String>,
    /// What was found there.
    pub(crate) found: Found,
}

impl From<Found> for Way {
    fn from(found: Found) -> Self {
        Self { found, steps: Vec::new(), tried: None }
    }
}
