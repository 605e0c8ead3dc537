//! Compares and hashes machines, for exploring their states (feature `operations`).
//!
//! Two machines are equal when their registers and facts are. Policy, layout and counters are left
//! out: equal machines of one policy answer every sequence of inputs alike.

use crate::function::Function;
use crate::msi::Msi;
use crate::msix::Msix;
use crate::storage::Storage;
use core::hash::{Hash, Hasher};

impl<S: Storage> PartialEq for Msix<S> {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.storage.memory(), other.storage.memory());
        (self.facts, self.next_capability) == (other.facts, other.next_capability)
            && (ours.entries, ours.claims, ours.words)
                == (theirs.entries, theirs.claims, theirs.words)
    }
}

impl<S: Storage> Eq for Msix<S> {}

impl<S: Storage> Hash for Msix<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let memory = self.storage.memory();
        (self.facts, self.next_capability).hash(state);
        (memory.entries, memory.claims, memory.words).hash(state);
    }
}

impl PartialEq for Msi {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl Eq for Msi {}

impl Hash for Msi {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.state.hash(state);
    }
}

impl<S: Storage> PartialEq for Function<S> {
    fn eq(&self, other: &Self) -> bool {
        (&self.msi, &self.msix, self.intx, self.command)
            == (&other.msi, &other.msix, other.intx, other.command)
    }
}

impl<S: Storage> Eq for Function<S> {}

impl<S: Storage> Hash for Function<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.msi, &self.msix, self.intx, self.command).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{engine, function, take, take_function};
    use crate::{Policy, Vector};
    use core::hash::BuildHasher;

    #[test]
    fn a_copy_in_place_has_everything() {
        let (mut copy, mut fx) = engine::<2, 1>(Policy::SPEC);
        let (mut source, mut other_fx) = engine::<2, 1>(Policy::QEMU);
        source.set_next_capability(0x40);
        source.set_mask(Vector::new(1), false, &mut other_fx).unwrap();
        take(&mut other_fx);
        source.notify(Vector::new(0), &mut other_fx).unwrap();
        copy.claim(Vector::new(1), &mut fx).unwrap();
        copy.clone_from(&source);
        assert_eq!(format!("{copy:?}"), format!("{source:?}"));
        assert_eq!(format!("{:?}", source.clone()), format!("{source:?}"));
    }

    #[test]
    fn engines_are_equal_when_they_would_behave_alike() {
        let (fresh, mut fx) = engine::<2, 1>(Policy::SPEC);
        let hasher = std::hash::RandomState::new();
        let mut other = fresh.clone();
        let v0 = Vector::new(0);
        other.notify(v0, &mut fx).unwrap();
        assert!(fresh != other && hasher.hash_one(&fresh) != hasher.hash_one(&other));
        other.withdraw(v0, &mut fx).unwrap();
        take(&mut fx);
        assert!(fresh == other && hasher.hash_one(&fresh) == hasher.hash_one(&other));
        assert_ne!(fresh.counters(), other.counters());

        other.set_mask(v0, false, &mut fx).unwrap();
        take(&mut fx);
        let rerouted = other.clone();
        other.write_table(0, &[4, 0, 0, 0], &mut fx).unwrap();
        other.write_table(0, &[0, 0, 0, 0], &mut fx).unwrap();
        assert_ne!(rerouted, other, "one of them has a message to tell");
        other.set_bus_master(false, &mut fx).unwrap();
        assert_eq!((rerouted.bus_master(), other.bus_master()), (true, false));
    }

    #[test]
    fn functions_are_equal_when_all_their_parts_are() {
        let (fresh, mut fx) = function(Policy::SPEC);
        let hasher = std::hash::RandomState::new();
        let v1 = Vector::new(1);
        let mut msi = fresh.clone();
        msi.write_msi(2, &[0x11], &mut fx).unwrap();
        let mut pending = msi.clone();
        take_function(&mut fx);
        pending.write_msi(12, &[3], &mut fx).unwrap(); // masks
        take_function(&mut fx);
        let masked = pending.clone();
        pending.notify(v1, &mut fx).unwrap();
        let mut msix = fresh.clone();
        msix.write_msix(3, &[0xc0], &mut fx).unwrap();
        take_function(&mut fx);
        let mut high = fresh.clone();
        high.set_level(true, &mut fx).unwrap();
        take_function(&mut fx);
        let mut command = fresh.clone();
        command.write_command(0, &[4, 4], &mut fx).unwrap();
        take_function(&mut fx);
        let all = [fresh, msi, masked, pending, msix, high, command];
        for (a, one) in all.iter().enumerate() {
            for (b, other) in all.iter().enumerate() {
                assert_eq!(one == other, a == b, "{a} and {b}");
                assert_eq!(hasher.hash_one(one) == hasher.hash_one(other), a == b, "{a} and {b}");
                let parts = (one.msi.as_ref().unwrap(), other.msi.as_ref().unwrap());
                assert_eq!(parts.0 == parts.1, parts.0.state == parts.1.state, "{a} and {b}");
            }
        }
    }
}
