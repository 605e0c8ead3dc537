//! Histories of a function on KVM in a world of models.

use msix_world::{Input, Setup, play};

/// A longer history finds nothing more.
const LONGEST: usize = 200;

/// The bytes: a function (1), the number of its vectors and whether its routes wait (1), then an input of
/// its alphabet each.
///
/// # Panics
/// When the function does what the rules forbid.
pub fn world(data: &[u8]) {
    let Some((setup, history)) = decode(data) else { return };
    if let Err(found) = play(setup, None, &history) {
        panic!("{setup:?}\n{found}");
    }
}

fn decode(data: &[u8]) -> Option<(Setup, Vec<Input>)> {
    let [which, shape, inputs @ ..] = data else { return None };
    let setups = Setup::single();
    let (_, setup) = setups[usize::from(*which) % setups.len()];
    let vectors = if setup.has_messages() { 1 + (shape & 3) } else { 1 };
    let setup = Setup { vectors, deferred: shape & 4 != 0, ..setup };
    let alphabet = setup.fuzzed();
    let input = |&byte: &u8| alphabet[usize::from(byte) % alphabet.len()];
    Some((setup, inputs.iter().take(LONGEST).map(input).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{committed, run_all};
    use msix_world::Input::*;

    #[test]
    fn every_world_in_the_corpus_keeps_the_rules() {
        run_all("world", world);
    }

    #[test]
    fn the_worlds_in_the_corpus_are_these() {
        let msix = MsixControl { enable: true, mask: false };
        let msi = MsiControl { enable: true, log: 0 };
        let life = [msix, Mask(0, false), Event(0), Save, Mask(0, true), Event(0), ReadPba];
        let restored = [msix, Mask(0, false), Save, Reset, Load, Event(0), NewProcess, Resume];
        let switched = [msi, Event(0), MsiAddressByte(true), Event(0), msix, Level(true), Reset];
        let written = [msix, Mask(0, false), AddressLow(0, true), Produce(0), Data(0, true), Loop];
        let detached = [msix, Mask(0, false), Detach, Produce(0), Save, Reset, Attach, Loop];
        for (name, function, shape, history) in [
            ("life", "msix", 1, &life[..]),
            ("restored", "msix-pin-device", 0, &restored),
            ("switched", "all-resampled", 1, &switched),
            ("written", "msix-own", 2, &written),
            ("detached", "msix-connected", 0, &detached),
        ] {
            let setups = Setup::single();
            let which = setups.iter().position(|(name, _)| *name == function).expect("a setup");
            let mut bytes = vec![u8::try_from(which).expect("a few"), shape];
            let (setup, _) = decode(&bytes).expect("two bytes");
            let alphabet = setup.fuzzed();
            for input in history {
                let at = alphabet.iter().position(|other| other == input).expect("in the alphabet");
                bytes.push(u8::try_from(at).expect("a few"));
            }
            committed("world", name, &bytes);
        }
    }
}
