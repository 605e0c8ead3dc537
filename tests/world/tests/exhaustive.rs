//! Every short history of one vector.

use msix_world::{Bounds, Setup, search};
use std::time::Duration;

#[test]
fn msix() {
    let setup = Setup::msix(1);
    let bounds = Bounds { depth: 4, time: Duration::from_secs(20), threads: 2 };
    let searched = search(setup, None, &setup.alphabet(), bounds);
    println!("{searched}");
    if let Some(found) = searched.found {
        panic!("{found}");
    }
}
