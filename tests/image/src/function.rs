//! The same for the function: INTx, MSI, MSI-X and the switching between them.

use msix_core::{
    Access, Delivery, FunctionEffect, FunctionEffects, Inline, LoadError, Message, Mode, Msi,
    MsiCapability, MsiCapabilityError, NewError, NotCarriedOut, Parts, Policy, SaveError, Vector,
    VectorError, Vectors,
};

type Function = msix_core::Function<Inline<64, 1>>;
type ModeList = FunctionEffects<14>;

#[unsafe(no_mangle)]
pub fn msi_capability_new(vectors: u32) -> Result<MsiCapability, MsiCapabilityError> {
    Ok(MsiCapability::new(vectors)?.with_64_bit_address().with_masks())
}

#[unsafe(no_mangle)]
pub fn msi_capability_from_control(control: u16) -> Result<MsiCapability, MsiCapabilityError> {
    MsiCapability::from_control(control)
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
    parts: Parts,
    policy: &Policy,
) -> Option<NewError> {
    match Function::new(parts, *policy) {
        Ok(function) => {
            *place = Some(function);
            None
        }
        Err(error) => Some(error),
    }
}

#[unsafe(no_mangle)]
pub fn function_read_msi(function: &Function, offset: usize, bytes: &mut [u8]) {
    function.read_msi(offset, bytes);
}

#[unsafe(no_mangle)]
pub fn function_read_msix(function: &Function, offset: usize, bytes: &mut [u8]) {
    function.read_msix(offset, bytes);
}

#[unsafe(no_mangle)]
pub fn function_read_table(function: &Function, offset: u64, bytes: &mut [u8]) -> Access {
    function.read_table(offset, bytes)
}

#[unsafe(no_mangle)]
pub fn function_read_pba(function: &Function, offset: u64, bytes: &mut [u8]) -> Access {
    function.read_pba(offset, bytes)
}

#[unsafe(no_mangle)]
pub fn function_write_pba(function: &Function, offset: u64, bytes: &[u8]) -> Access {
    function.write_pba(offset, bytes)
}

#[unsafe(no_mangle)]
pub fn function_set_next_capability(function: &mut Function, mode: Mode, offset: u8) {
    function.set_next_capability(mode, offset);
}

#[unsafe(no_mangle)]
pub fn function_load_qemu(
    function: &mut Function,
    registers: (u16, bool),
    msi: Option<&[u8]>,
    msix: Option<(u16, &[u8])>,
) -> Result<(), LoadError> {
    let (command, high) = registers;
    function.load_qemu(command, high, msi, msix)
}
