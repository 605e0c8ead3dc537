//! What tells two states of a world apart.

use crate::outside::is_readable;
use crate::world::World;
use std::hash::{DefaultHasher, Hash, Hasher};

impl World {
    /// A number for all that can be observed: the whole engine but for its totals, what the kernel and
    /// the device were told, the levels, what eventfds hold, and what the judge knows.
    ///
    /// Folded is what the backend keeps to itself and nobody sees from outside: which mode has what
    /// eventfds hold, what waits for the loop, and the plans.
    pub(crate) fn state(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let engine = self.function().inspect(|engine| format!("{engine:?}"));
        without_totals(&engine).hash(&mut hasher);
        {
            let outside = self.outside.lock();
            outside.kernel.routes.hash(&mut hasher);
            outside.kernel.assigned().hash(&mut hasher);
            outside.kernel.holds().hash(&mut hasher);
            format!("{:?}", outside.device.state()).hash(&mut hasher);
            (outside.controller.pin, outside.controller.line).hash(&mut hasher);
            (outside.failing, &outside.failed).hash(&mut hasher);
        }
        self.producers.iter().for_each(|(_, eventfd)| is_readable(eventfd).hash(&mut hasher));
        self.registers.hash(&mut hasher);
        (&self.claims, &self.owed, &self.unsent, &self.unsent_as).hash(&mut hasher);
        (self.attached, self.loading, self.tolerant).hash(&mut hasher);
        self.routes.deadline().is_some().hash(&mut hasher);
        if let Some(saved) = &self.saved {
            (&saved.bytes, &saved.owed, &saved.claims).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// A debug text without the structures of totals in it.
fn without_totals(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("Counters {") {
        kept.push_str(&rest[..at]);
        let end = rest[at..].find('}').map_or(rest.len(), |end| at + end + 1);
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}
