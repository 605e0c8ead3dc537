//! Plays one history, and tells what happens: the name of a setup, how many vectors, then inputs as they
//! are printed, one an argument, or all in one, a line each.

use msix_world::{Setup, World};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, vectors, inputs @ ..] = &arguments[..] else { return };
    let setups = Setup::several(vectors.parse().unwrap_or(1));
    let Some((_, setup)) = setups.into_iter().chain(Setup::single()).find(|(n, _)| n == name)
    else {
        return;
    };
    let alphabet = [setup.alphabet(), setup.failures()].concat();
    let mut world = World::new(setup, None);
    for line in inputs.iter().flat_map(|text| text.lines()).map(str::trim) {
        let Some(input) = alphabet.iter().find(|input| format!("{input:?}") == line) else {
            println!("no such input: {line}");
            continue;
        };
        let judged = world.apply(*input);
        println!("{line}: {judged:?}\n    {world:?}");
    }
    println!("the end: {:?}\n    {world:?}", world.close());
}
