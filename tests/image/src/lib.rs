//! Every public input and query of the engine as a function of its own, as firmware would call them,
//! in an image that links only if no panic is reachable: the panic handler calls a function that does
//! not exist.
//!
//! See tests/tests/image, which builds it, links it and reads its size and stack.

#![no_std]

#[cfg(feature = "function")]
mod function;
mod mem;

use core::panic::PanicInfo;
use msix_core::{
    Access, BarIndex, Borrowed, Delivery, Effect, Effects, Entry, Inline, Layout, LayoutError,
    LoadError, Location, Message, Msix, NewError, NotCarriedOut, Policy, Region, SaveError, Vector,
    VectorError, Vectors, Violation, Word,
};

unsafe extern "C" {
    /// Does not exist.
    safe fn a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    a_panic_is_reachable()
}

type Engine = Msix<Inline<64, 1>>;
type List = Effects<5>;

#[unsafe(no_mangle)]
pub fn msix_write_config(
    msix: &mut Engine,
    offset: usize,
    bytes: &[u8],
    fx: &mut List,
) -> Result<(), NotCarriedOut> {
    msix.write_config(offset, bytes, fx)
}

#[unsafe(no_mangle)]
pub fn msix_read_config(msix: &Engine, offset: usize, bytes: &mut [u8]) {
    msix.read_config(offset, bytes);
}

#[unsafe(no_mangle)]
pub fn msix_write_table(
    msix: &mut Engine,
    offset: u64,
    bytes: &[u8],
    fx: &mut List,
) -> Result<Access, NotCarriedOut> {
    msix.write_table(offset, bytes, fx)
}

#[unsafe(no_mangle)]
pub fn msix_read_table(msix: &Engine, offset: u64, bytes: &mut [u8]) -> Access {
    msix.read_table(offset, bytes)
}

#[unsafe(no_mangle)]
pub fn msix_poll_pba(
    msix: &mut Engine,
    offset: u64,
    len: usize,
    fx: &mut List,
) -> Result<(), NotCarriedOut> {
    msix.poll_pba(offset, len, fx)
}

#[unsafe(no_mangle)]
pub fn msix_read_pba(msix: &Engine, offset: u64, bytes: &mut [u8]) -> Access {
    msix.read_pba(offset, bytes)
}

#[unsafe(no_mangle)]
pub fn msix_write_pba(msix: &Engine, offset: u64, bytes: &[u8]) -> Access {
    msix.write_pba(offset, bytes)
}

#[unsafe(no_mangle)]
pub fn msix_notify(
    msix: &mut Engine,
    vector: Vector,
    fx: &mut List,
) -> Result<Delivery, VectorError> {
    msix.notify(vector, fx)
}

#[unsafe(no_mangle)]
pub fn msix_withdraw(
    msix: &mut Engine,
    vector: Vector,
    fx: &mut List,
) -> Result<bool, VectorError> {
    msix.withdraw(vector, fx)
}

#[unsafe(no_mangle)]
pub fn msix_claim(msix: &mut Engine, vector: Vector, fx: &mut List) -> Result<(), VectorError> {
    msix.claim(vector, fx)
}

#[unsafe(no_mangle)]
pub fn msix_unclaim(msix: &mut Engine, vector: Vector, fx: &mut List) -> Result<(), VectorError> {
    msix.unclaim(vector, fx)
}

#[unsafe(no_mangle)]
pub fn msix_unclaim_all(msix: &mut Engine, fx: &mut List) -> Result<(), NotCarriedOut> {
    msix.unclaim_all(fx)
}

#[unsafe(no_mangle)]
pub fn msix_set_mask(
    msix: &mut Engine,
    vector: Vector,
    masked: bool,
    fx: &mut List,
) -> Result<(), VectorError> {
    msix.set_mask(vector, masked, fx)
}

#[unsafe(no_mangle)]
pub fn msix_set_message(
    msix: &mut Engine,
    vector: Vector,
    message: Message,
    fx: &mut List,
) -> Result<(), VectorError> {
    msix.set_message(vector, message, fx)
}

#[unsafe(no_mangle)]
pub fn msix_attach(msix: &mut Engine, fx: &mut List) -> Result<(), NotCarriedOut> {
    msix.attach(fx)
}

#[unsafe(no_mangle)]
pub fn msix_detach(msix: &mut Engine, fx: &mut List) -> Result<(), NotCarriedOut> {
    msix.detach(fx)
}

#[unsafe(no_mangle)]
pub fn msix_report_failed(msix: &mut Engine, vectors: Vectors) {
    msix.report_failed(vectors);
}

#[unsafe(no_mangle)]
pub fn msix_report_held(
    msix: &mut Engine,
    vectors: Vectors,
    fx: &mut List,
) -> Result<(), NotCarriedOut> {
    msix.report_held(vectors, fx)
}

#[unsafe(no_mangle)]
pub fn msix_set_bus_master(
    msix: &mut Engine,
    on: bool,
    fx: &mut List,
) -> Result<(), NotCarriedOut> {
    msix.set_bus_master(on, fx)
}

#[unsafe(no_mangle)]
pub fn msix_reset(msix: &mut Engine, fx: &mut List) -> Result<(), NotCarriedOut> {
    msix.reset(fx)
}

#[unsafe(no_mangle)]
pub fn msix_prepare_save(msix: &mut Engine, fx: &mut List) -> Result<(), NotCarriedOut> {
    msix.prepare_save(fx)
}

#[unsafe(no_mangle)]
pub fn msix_save(msix: &Engine, bytes: &mut [u8]) -> Result<usize, SaveError> {
    msix.save(bytes)
}

#[unsafe(no_mangle)]
pub fn msix_save_qemu(msix: &Engine, bytes: &mut [u8]) -> Result<usize, SaveError> {
    msix.save_qemu(bytes)
}

#[unsafe(no_mangle)]
pub fn msix_load(msix: &mut Engine, bytes: &[u8]) -> Result<(), LoadError> {
    msix.load(bytes)
}

#[unsafe(no_mangle)]
pub fn msix_load_qemu(msix: &mut Engine, control: u16, bytes: &[u8]) -> Result<(), LoadError> {
    msix.load_qemu(control, bytes)
}

#[unsafe(no_mangle)]
pub fn msix_resume(msix: &mut Engine, fx: &mut List) -> Result<(), NotCarriedOut> {
    msix.resume(fx)
}

#[unsafe(no_mangle)]
pub fn msix_message(msix: &Engine, vector: Vector) -> Option<Message> {
    msix.message(vector)
}

#[unsafe(no_mangle)]
pub fn msix_set_next_capability(msix: &mut Engine, offset: u8) {
    msix.set_next_capability(offset);
}

#[unsafe(no_mangle)]
pub fn msix_check(msix: &Engine) -> Result<(), Violation> {
    msix.check()
}

#[unsafe(no_mangle)]
pub fn msix_is_pending(msix: &Engine, vector: Vector) -> Option<bool> {
    msix.is_pending(vector)
}

#[unsafe(no_mangle)]
pub fn msix_claims(msix: &Engine, vector: Vector) -> Option<u16> {
    msix.claims(vector)
}

#[unsafe(no_mangle)]
pub fn msix_control(msix: &Engine) -> u16 {
    msix.control()
}

#[unsafe(no_mangle)]
pub fn msix_saved_len(msix: &Engine) -> usize {
    msix.saved_len()
}

#[unsafe(no_mangle)]
pub fn msix_qemu_len(msix: &Engine) -> usize {
    msix.qemu_len()
}

#[unsafe(no_mangle)]
pub fn msix_take(fx: &mut List) -> Option<(Effect, u32)> {
    let effect = fx.take()?;
    Some((effect, effect.vectors().iter().map(|v| u32::from(v.index())).fold(0, u32::wrapping_add)))
}

#[unsafe(no_mangle)]
pub fn msix_new(place: &mut Option<Engine>, layout: Layout, policy: Policy) -> Option<NewError> {
    match Msix::new(layout, policy) {
        Ok(engine) => {
            *place = Some(engine);
            None
        }
        Err(error) => Some(error),
    }
}

#[unsafe(no_mangle)]
pub fn msix_with_storage<'a>(
    place: &mut Option<Msix<Borrowed<'a>>>,
    entries: &'a mut [Entry],
    claims: &'a mut [u16],
    words: &'a mut [Word],
    layout: &Layout,
    policy: &Policy,
) -> bool {
    let storage = Borrowed::new(entries, claims, words).ok();
    *place = storage.and_then(|storage| Msix::with_storage(storage, *layout, *policy).ok());
    place.is_some()
}

#[unsafe(no_mangle)]
pub fn layout_new(
    vectors: u32,
    table: Location,
    pba: Location,
    sizes: &[u64; 6],
) -> Result<Layout, LayoutError> {
    Layout::new(vectors, table, pba, sizes)
}

#[unsafe(no_mangle)]
pub fn layout_exclusive_bar(vectors: u32, bar: u8) -> Result<Layout, LayoutError> {
    Layout::exclusive_bar(vectors, BarIndex::new(bar)?)
}

#[unsafe(no_mangle)]
pub fn layout_after(vectors: u32, bar: BarIndex, used: u64) -> Result<Layout, LayoutError> {
    Layout::after(vectors, bar, used)
}

#[unsafe(no_mangle)]
pub fn layout_from_capability(
    capability: &[u8; 12],
    sizes: &[u64; 6],
) -> Result<Layout, LayoutError> {
    Layout::from_capability(capability, sizes)
}

#[unsafe(no_mangle)]
pub fn layout_locate(layout: &Layout, bar: BarIndex, offset: u64) -> Option<(Region, u64)> {
    layout.locate(bar, offset)
}

#[unsafe(no_mangle)]
pub fn layout_min_bar_size(layout: &Layout, bar: BarIndex) -> u64 {
    layout.min_bar_size(bar)
}

#[cfg(feature = "seeded-panic")]
#[unsafe(no_mangle)]
pub fn seeded_panic(bytes: &[u8]) -> u8 {
    bytes[bytes.len() / 2]
}
