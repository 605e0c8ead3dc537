//! Keeps commits back while many functions come up together.

use super::routes::Routes;
use std::fmt;
use std::sync::Arc;

/// Keeps the routes of vectors that come up from being committed, until the last hold of the
/// [`Routes`] is dropped: a VM that is restored, or a device of many functions that is plugged in, then
/// takes one commit instead of one for each function. Meanwhile their events go through
/// KVM_SIGNAL_MSI, so none waits. A live vector with a message that the guest replaces is committed at
/// once all the same.
///
/// Dropping the last hold flushes ([`Routes::flush`]) in the thread that drops it: it takes the locks of
/// the functions, and makes KVM_SET_GSI_ROUTING and a KVM_IRQFD for each vector. A
/// [`KvmHost`](super::KvmHost) is flushed by its VMM, afterwards. A hold that is never dropped leaves
/// delivery to userspace for ever.
///
/// ```
/// # use msix_backends::kvm::{Function, Platform, Routes};
/// # use std::sync::Arc;
/// fn resume_all<P: Platform>(routes: &Arc<Routes>, functions: &[Function<P>]) {
///     let hold = routes.hold();
///     functions.iter().for_each(Function::resume);
///     drop(hold); // one commit for all
/// }
/// ```
#[must_use = "the hold ends when this is dropped"]
pub struct CommitHold(Arc<Routes>);

impl CommitHold {
    pub(super) fn new(routes: &Arc<Routes>) -> Self {
        routes.add_hold();
        Self(Arc::clone(routes))
    }
}

impl Drop for CommitHold {
    fn drop(&mut self) {
        if self.0.remove_hold() {
            self.0.flush();
        }
    }
}

impl fmt::Debug for CommitHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitHold").finish_non_exhaustive()
    }
}
