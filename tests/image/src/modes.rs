//! The same for MSI, the pin, and the function that switches between them.

use crate::List;
use msix_core::{
    Access, Answer, Delivery, FunctionEffect, FunctionEffects, FunctionOperation, Inline, Intx,
    IntxEffect, IntxSource, LoadError, Message, Mode, Msi, MsiCapability, MsiCapabilityError, Msix,
    NotCarriedOut, PartInUse, Policy, SaveError, Vector, VectorError, Vectors, Violation,
};

type Function = msix_core::Function<Inline<64, 1>>;
type ModeList = FunctionEffects<14>;
type PinList = msix_core::Effects<4, IntxEffect>;

#[unsafe(no_mangle)]
pub fn msi_capability_new(vectors: u32) -> Result<MsiCapability, MsiCapabilityError> {
    Ok(MsiCapability::new(vectors)?.with_64_bit_address().with_masks())
}

#[unsafe(no_mangle)]
pub fn msi_capability_from_control(control: u16) -> Result<MsiCapability, MsiCapabilityError> {
    MsiCapability::from_control(control)
}

#[unsafe(no_mangle)]
pub fn msi_new(capability: MsiCapability, policy: &Policy, place: &mut Option<Msi>) {
    *place = Some(Msi::new(capability, *policy));
}

#[unsafe(no_mangle)]
pub fn msi_write_config(
    msi: &mut Msi,
    offset: usize,
    bytes: &[u8],
    fx: &mut List,
) -> Result<(), NotCarriedOut> {
    msi.write_config(offset, bytes, fx)
}

#[unsafe(no_mangle)]
pub fn msi_poll_config(
    msi: &mut Msi,
    offset: usize,
    len: usize,
    fx: &mut List,
) -> Result<(), NotCarriedOut> {
    msi.poll_config(offset, len, fx)
}

#[unsafe(no_mangle)]
pub fn msi_read_config(msi: &Msi, offset: usize, bytes: &mut [u8]) {
    msi.read_config(offset, bytes);
}

#[unsafe(no_mangle)]
pub fn msi_set_next_capability(msi: &mut Msi, offset: u8) {
    msi.set_next_capability(offset);
}

#[unsafe(no_mangle)]
pub fn msi_notify(msi: &mut Msi, vector: Vector, fx: &mut List) -> Result<Delivery, VectorError> {
    msi.notify(vector, fx)
}

#[unsafe(no_mangle)]
pub fn msi_withdraw(msi: &mut Msi, vector: Vector, fx: &mut List) -> Result<bool, VectorError> {
    msi.withdraw(vector, fx)
}

#[unsafe(no_mangle)]
pub fn msi_attach(msi: &mut Msi, fx: &mut List) -> Result<(), NotCarriedOut> {
    msi.attach(fx)
}

#[unsafe(no_mangle)]
pub fn msi_detach(msi: &mut Msi, fx: &mut List) -> Result<(), NotCarriedOut> {
    msi.detach(fx)
}

#[unsafe(no_mangle)]
pub fn msi_report_held(
    msi: &mut Msi,
    vectors: Vectors,
    fx: &mut List,
) -> Result<(), NotCarriedOut> {
    msi.report_held(vectors, fx)
}

#[unsafe(no_mangle)]
pub fn msi_set_bus_master(msi: &mut Msi, on: bool, fx: &mut List) -> Result<(), NotCarriedOut> {
    msi.set_bus_master(on, fx)
}

#[unsafe(no_mangle)]
pub fn msi_set_overridden(msi: &mut Msi, on: bool, fx: &mut List) -> Result<(), NotCarriedOut> {
    msi.set_overridden(on, fx)
}

#[unsafe(no_mangle)]
pub fn msi_reset(msi: &mut Msi, fx: &mut List) -> Result<(), NotCarriedOut> {
    msi.reset(fx)
}

#[unsafe(no_mangle)]
pub fn msi_report_failed(msi: &mut Msi, vectors: Vectors) {
    msi.report_failed(vectors);
}

#[unsafe(no_mangle)]
pub fn msi_prepare_save(msi: &mut Msi, fx: &mut List) -> Result<(), NotCarriedOut> {
    msi.prepare_save(fx)
}

#[unsafe(no_mangle)]
pub fn msi_resume(msi: &mut Msi, fx: &mut List) -> Result<(), NotCarriedOut> {
    msi.resume(fx)
}

#[unsafe(no_mangle)]
pub fn msi_save(msi: &Msi, bytes: &mut [u8]) -> Result<usize, SaveError> {
    msi.save(bytes)
}

#[unsafe(no_mangle)]
pub fn msi_load(msi: &mut Msi, bytes: &[u8]) -> Result<(), LoadError> {
    msi.load(bytes)
}

#[unsafe(no_mangle)]
pub fn msi_load_capability(msi: &mut Msi, bytes: &[u8]) -> Result<(), LoadError> {
    msi.load_capability(bytes)
}

#[unsafe(no_mangle)]
pub fn msi_capability(msi: &Msi) -> [u8; 24] {
    msi.capability()
}

#[unsafe(no_mangle)]
pub fn msi_message(msi: &Msi, vector: Vector) -> Option<Message> {
    msi.message(vector)
}

#[unsafe(no_mangle)]
pub fn msi_vector_for(msi: &Msi, vector: Vector) -> Vector {
    msi.vector_for(vector)
}

#[unsafe(no_mangle)]
pub fn msi_allocated(msi: &Msi) -> u16 {
    msi.allocated()
}

#[unsafe(no_mangle)]
pub fn msi_live(msi: &Msi) -> Vectors {
    msi.live()
}

#[unsafe(no_mangle)]
pub fn msi_fallback(msi: &Msi) -> Vectors {
    msi.fallback()
}

#[unsafe(no_mangle)]
pub fn msi_pending(msi: &Msi) -> Vectors {
    msi.pending()
}

#[unsafe(no_mangle)]
pub fn msi_masked(msi: &Msi) -> Vectors {
    msi.masked()
}

#[unsafe(no_mangle)]
pub fn msi_deliverable(msi: &Msi) -> Vectors {
    msi.deliverable()
}

#[unsafe(no_mangle)]
pub fn msi_check(msi: &Msi) -> Result<(), Violation> {
    msi.check()
}

#[unsafe(no_mangle)]
pub fn intx_new(source: IntxSource) -> Intx {
    Intx::new(source)
}

#[unsafe(no_mangle)]
pub fn intx_set_level(intx: &mut Intx, high: bool, fx: &mut PinList) -> Result<(), NotCarriedOut> {
    intx.set_level(high, fx)
}

#[unsafe(no_mangle)]
pub fn intx_report_fired(intx: &mut Intx, fx: &mut PinList) -> Result<(), NotCarriedOut> {
    intx.report_fired(fx)
}

#[unsafe(no_mangle)]
pub fn intx_eoi(intx: &mut Intx, fx: &mut PinList) -> Result<(), NotCarriedOut> {
    intx.eoi(fx)
}

#[unsafe(no_mangle)]
pub fn intx_set_disabled(intx: &mut Intx, on: bool, fx: &mut PinList) -> Result<(), NotCarriedOut> {
    intx.set_disabled(on, fx)
}

#[unsafe(no_mangle)]
pub fn intx_set_prohibited(
    intx: &mut Intx,
    on: bool,
    fx: &mut PinList,
) -> Result<(), NotCarriedOut> {
    intx.set_prohibited(on, fx)
}

#[unsafe(no_mangle)]
pub fn intx_attach(intx: &mut Intx, fx: &mut PinList) -> Result<(), NotCarriedOut> {
    intx.attach(fx)
}

#[unsafe(no_mangle)]
pub fn intx_detach(intx: &mut Intx, fx: &mut PinList) -> Result<(), NotCarriedOut> {
    intx.detach(fx)
}

#[unsafe(no_mangle)]
pub fn intx_reset(intx: &mut Intx, fx: &mut PinList) -> Result<(), NotCarriedOut> {
    intx.reset(fx)
}

#[unsafe(no_mangle)]
pub fn intx_report_failed(intx: &mut Intx) {
    intx.report_failed();
}

#[unsafe(no_mangle)]
pub fn intx_status(intx: &Intx) -> bool {
    intx.status()
}

#[unsafe(no_mangle)]
pub fn intx_check(intx: &Intx) -> bool {
    intx.check()
}

#[unsafe(no_mangle)]
pub fn intx_take(fx: &mut PinList) -> Option<IntxEffect> {
    fx.take()
}

#[unsafe(no_mangle)]
pub fn function_write_msi(
    function: &mut Function,
    offset: usize,
    bytes: &[u8],
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.write_msi(offset, bytes, fx)
}

#[unsafe(no_mangle)]
pub fn function_poll_msi(
    function: &mut Function,
    offset: usize,
    len: usize,
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.poll_msi(offset, len, fx)
}

#[unsafe(no_mangle)]
pub fn function_write_msix(
    function: &mut Function,
    offset: usize,
    bytes: &[u8],
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.write_msix(offset, bytes, fx)
}

#[unsafe(no_mangle)]
pub fn function_write_command(
    function: &mut Function,
    offset: usize,
    bytes: &[u8],
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.write_command(offset, bytes, fx)
}

#[unsafe(no_mangle)]
pub fn function_write_table(
    function: &mut Function,
    offset: u64,
    bytes: &[u8],
    fx: &mut ModeList,
) -> Result<Access, NotCarriedOut> {
    function.write_table(offset, bytes, fx)
}

#[unsafe(no_mangle)]
pub fn function_poll_pba(
    function: &mut Function,
    offset: u64,
    len: usize,
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.poll_pba(offset, len, fx)
}

#[unsafe(no_mangle)]
pub fn function_notify(
    function: &mut Function,
    vector: Vector,
    fx: &mut ModeList,
) -> Result<Delivery, VectorError> {
    function.notify(vector, fx)
}

#[unsafe(no_mangle)]
pub fn function_withdraw(
    function: &mut Function,
    mode: Mode,
    vector: Vector,
    fx: &mut ModeList,
) -> Result<bool, VectorError> {
    function.withdraw(mode, vector, fx)
}

#[unsafe(no_mangle)]
pub fn function_set_level(
    function: &mut Function,
    high: bool,
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.set_level(high, fx)
}

#[unsafe(no_mangle)]
pub fn function_report_fired(
    function: &mut Function,
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.report_fired(fx)
}

#[unsafe(no_mangle)]
pub fn function_eoi(function: &mut Function, fx: &mut ModeList) -> Result<(), NotCarriedOut> {
    function.eoi(fx)
}

#[unsafe(no_mangle)]
pub fn function_claim(
    function: &mut Function,
    vector: Vector,
    fx: &mut ModeList,
) -> Result<(), VectorError> {
    function.claim(vector, fx)
}

#[unsafe(no_mangle)]
pub fn function_unclaim(
    function: &mut Function,
    vector: Vector,
    fx: &mut ModeList,
) -> Result<(), VectorError> {
    function.unclaim(vector, fx)
}

#[unsafe(no_mangle)]
pub fn function_unclaim_all(
    function: &mut Function,
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.unclaim_all(fx)
}

#[unsafe(no_mangle)]
pub fn function_set_mask(
    function: &mut Function,
    vector: Vector,
    masked: bool,
    fx: &mut ModeList,
) -> Result<(), VectorError> {
    function.set_mask(vector, masked, fx)
}

#[unsafe(no_mangle)]
pub fn function_set_message(
    function: &mut Function,
    vector: Vector,
    message: Message,
    fx: &mut ModeList,
) -> Result<(), VectorError> {
    function.set_message(vector, message, fx)
}

#[unsafe(no_mangle)]
pub fn function_attach(function: &mut Function, fx: &mut ModeList) -> Result<(), NotCarriedOut> {
    function.attach(fx)
}

#[unsafe(no_mangle)]
pub fn function_detach(function: &mut Function, fx: &mut ModeList) -> Result<(), NotCarriedOut> {
    function.detach(fx)
}

#[unsafe(no_mangle)]
pub fn function_report_held(
    function: &mut Function,
    mode: Mode,
    vectors: Vectors,
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.report_held(mode, vectors, fx)
}

#[unsafe(no_mangle)]
pub fn function_reset(function: &mut Function, fx: &mut ModeList) -> Result<(), NotCarriedOut> {
    function.reset(fx)
}

#[unsafe(no_mangle)]
pub fn function_report_failed(function: &mut Function, mode: Mode, vectors: Vectors) {
    function.report_failed(mode, vectors);
}

#[unsafe(no_mangle)]
pub fn function_prepare_save(
    function: &mut Function,
    fx: &mut ModeList,
) -> Result<(), NotCarriedOut> {
    function.prepare_save(fx)
}

#[unsafe(no_mangle)]
pub fn function_resume(function: &mut Function, fx: &mut ModeList) -> Result<(), NotCarriedOut> {
    function.resume(fx)
}

#[unsafe(no_mangle)]
pub fn function_save(function: &Function, bytes: &mut [u8]) -> Result<usize, SaveError> {
    function.save(bytes)
}

#[unsafe(no_mangle)]
pub fn function_load(function: &mut Function, bytes: &[u8]) -> Result<(), LoadError> {
    function.load(bytes)
}

#[unsafe(no_mangle)]
pub fn function_saved_len(function: &Function) -> usize {
    function.saved_len()
}

#[unsafe(no_mangle)]
pub fn function_mode(function: &Function) -> Mode {
    function.mode()
}

#[unsafe(no_mangle)]
pub fn function_message(function: &Function, mode: Mode, vector: Vector) -> Option<Message> {
    function.message(mode, vector)
}

#[unsafe(no_mangle)]
pub fn function_status(function: &Function) -> u16 {
    function.status()
}

#[unsafe(no_mangle)]
pub fn function_is_conflicted(function: &Function) -> bool {
    function.is_conflicted()
}

#[unsafe(no_mangle)]
pub fn function_is_loading(function: &Function) -> bool {
    function.is_loading()
}

#[unsafe(no_mangle)]
pub fn function_check(function: &Function) -> bool {
    function.check()
}

#[unsafe(no_mangle)]
pub fn function_take(fx: &mut ModeList) -> Option<FunctionEffect> {
    fx.take()
}

#[unsafe(no_mangle)]
pub fn function_new(
    place: &mut Option<Function>,
    msi: Option<Msi>,
    msix: Option<Msix<Inline<64, 1>>>,
    intx: Option<Intx>,
) -> Option<PartInUse> {
    match Function::new(msi, msix, intx) {
        Ok(function) => {
            *place = Some(function);
            None
        }
        Err(error) => Some(error),
    }
}

#[unsafe(no_mangle)]
pub fn function_apply(
    operation: &FunctionOperation,
    function: &mut Function,
    scratch: &mut [u8],
    fx: &mut ModeList,
) -> Answer {
    operation.apply(function, scratch, fx)
}
