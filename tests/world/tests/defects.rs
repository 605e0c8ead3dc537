//! Each seeded defect is found, with inputs that find nothing without it.

use msix_world::{Behind, Bounds, Defect, Input, Producers, Setup, search};
use std::time::Duration;

/// The function and the inputs with which a defect shows soonest.
fn place(defect: Defect) -> (Setup, Vec<Input>) {
    use Input::*;
    let device = |setup| Setup { pin: true, behind: Behind::Device, ..setup };
    let own = |setup| Setup { producers: Producers::Own, ..setup };
    let enable = MsixControl { enable: true, mask: false };
    match defect {
        Defect::DeafLineAtResume => {
            (device(Setup::msix(1)), vec![enable, Save, Reset, Load, NewProcess, Resume])
        }
        Defect::EagerAfterLoad => {
            (Setup::msix(1), vec![enable, Mask(0, false), Save, Load, ReadPba, Resume, Reset])
        }
        Defect::OpenGateAfterLoad => {
            (own(Setup::msix(1)), vec![enable, Mask(0, false), Save, Load, Event(0)])
        }
        Defect::StatusFollowsDisable => {
            let disable = Command { bus_master: true, intx_disable: true };
            (Setup::pin(), vec![Level(true), disable, ReadStatus])
        }
        Defect::UnboundMsiForgotten => {
            let scarce =
                Setup { scarce: true, behind: Behind::Device, ..Setup::msi(1, true, true) };
            (scarce, vec![MsiControl { enable: true, log: 0 }, MsiMask(1), MsiMask(0)])
        }
        Defect::HeldNotSavedWhileDetached
        | Defect::HeldOutlivesReset
        | Defect::HeldOutlivesWithdraw => {
            let held = [enable, Mask(0, false), Detach, Produce(0)];
            let inputs = [&held[..], &[Save, NewProcess, Reset, Withdraw(0)]].concat();
            (own(Setup::msix(1)), inputs)
        }
        Defect::PinLeftHigh => (Setup::pin(), vec![Level(true)]),
        Defect::RewriteNeverTold => {
            (Setup::msix(1), vec![enable, Mask(0, false), Data(0, true), Event(0)])
        }
        Defect::HalfWriteNotHeard => {
            (own(Setup::msix(1)), vec![enable, Mask(0, false), AddressLow(0, true), Produce(0)])
        }
    }
}

#[test]
fn every_seeded_defect_is_found_and_nothing_else_is() {
    let bounds =
        Bounds { depth: 6, time: Duration::from_secs(30), threads: 2, ..Bounds::default() };
    for defect in Defect::ALL {
        let (setup, alphabet) = place(defect);
        let found = search(setup, Some(defect), &alphabet, bounds);
        let history = found.found.as_ref().map(|found| &found.history);
        assert!(history.is_some(), "{defect:?} is not found: {found}");
        println!("{defect:?}: {}", found.found.map_or_else(String::new, |found| found.to_string()));
        let without = search(setup, None, &alphabet, bounds);
        assert_eq!(without.found, None, "{defect:?}");
    }
}
