//! The two calls to libvirt's C library that its Rust binding does not wrap (or leaks memory in):
//! lifecycle events, and the statistics of all domains.
//!
//! What makes it sound:
//! - Callbacks run on the one event thread that [`start_event_loop`] starts. They only look at
//!   their arguments and hand a copy to an [`EventSink`], which is `Send + Sync`.
//! - The sink's box belongs to libvirt from a successful registration until libvirt calls
//!   [`free_sink`], exactly once, after the last callback. Registration that fails leaves it to us.
//! - A subscription holds its own reference of the connection and deregisters before it lets go.
#![expect(
    unsafe_code,
    reason = "C callbacks and statistics records have no safe wrapper"
)]

use std::ffi::{CStr, c_int, c_void};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use virt::connect::Connect;
use virt::error::Error;
use virt_sys as sys;
use virtflow_types::ObjectId;

use crate::hypervisor::{DomainChange, DomainEvent};

/// Stack of the event thread: it polls and copies, and calls nothing deep.
const EVENT_THREAD_STACK_BYTES: usize = 256 * 1024;
/// Rest after the event loop failed, so that a broken one doesn't spin.
const EVENT_LOOP_RETRY: Duration = Duration::from_secs(1);

/// Takes events off the event thread. Must not block.
pub(super) trait EventSink: Send + Sync {
    fn deliver(&self, event: DomainEvent);
}

/// Starts libvirt's event loop once per process. Must be called before the first connection is
/// opened: connections opened earlier would have neither events nor keep-alive.
pub(super) fn start_event_loop() -> Result<(), Error> {
    static STARTED: OnceLock<Result<(), Error>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl()?;
            std::thread::Builder::new()
                .name("libvirt-events".to_owned())
                .stack_size(EVENT_THREAD_STACK_BYTES)
                .spawn(|| {
                    loop {
                        if let Err(error) = virt::event::event_run_default_impl() {
                            tracing::warn!(%error, "libvirt's event loop failed; it goes on");
                            std::thread::sleep(EVENT_LOOP_RETRY);
                        }
                    }
                })
                .map(|_| ())
                .map_err(|_| Error::last_error())
        })
        .clone()
}

/// Lifecycle events of one connection, until dropped.
#[derive(Debug)]
pub(super) struct LifecycleSubscription {
    connection: Connect,
    callback: c_int,
}

impl LifecycleSubscription {
    /// Has the lifecycle events of all domains delivered to `sink`.
    pub(super) fn new(connection: &Connect, sink: Arc<dyn EventSink>) -> Result<Self, Error> {
        type Lifecycle = unsafe extern "C" fn(
            sys::virConnectPtr,
            sys::virDomainPtr,
            c_int,
            c_int,
            *mut c_void,
        ) -> c_int;
        type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);

        let connection = connection.clone();
        // A trait object's pointer is wide; its box is thin and fits the C pointer.
        let opaque = Box::into_raw(Box::new(sink)).cast::<c_void>();
        // SAFETY: libvirt's documented way (VIR_DOMAIN_EVENT_CALLBACK): for the lifecycle event it
        // calls the pointer with the lifecycle signature again.
        let callback = unsafe { std::mem::transmute::<Lifecycle, Generic>(on_lifecycle) };
        // SAFETY: the connection is alive (we hold a reference); a null domain means all; `opaque`
        // is what `on_lifecycle` and `free_sink` expect.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connection.as_ptr(),
                std::ptr::null_mut(),
                sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE.cast_signed(),
                Some(callback),
                opaque,
                Some(free_sink),
            )
        };
        if id < 0 {
            let error = Error::last_error();
            // SAFETY: nothing was registered, so libvirt neither kept nor freed the box.
            unsafe { free_sink(opaque) };
            return Err(error);
        }
        Ok(Self {
            connection,
            callback: id,
        })
    }
}

impl Drop for LifecycleSubscription {
    fn drop(&mut self) {
        // On a connection that is gone this fails at the far end only; the callback is removed.
        // SAFETY: the connection is alive until after this, and the id is ours.
        unsafe {
            sys::virConnectDomainEventDeregisterAny(self.connection.as_ptr(), self.callback);
        }
    }
}

/// libvirt's lifecycle callback.
///
/// # Safety
/// Called by libvirt only: `domain` is valid during the call, `opaque` is the box of a sink.
unsafe extern "C" fn on_lifecycle(
    _connection: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: see above; the box is freed only after the last callback.
    let sink = unsafe { &*opaque.cast::<Arc<dyn EventSink>>() };
    // SAFETY: `domain` is valid during the call.
    if let Some(domain_id) = unsafe { domain_uuid(domain) } {
        let change = match event.cast_unsigned() {
            sys::VIR_DOMAIN_EVENT_DEFINED | sys::VIR_DOMAIN_EVENT_UNDEFINED => {
                DomainChange::Definition
            }
            sys::VIR_DOMAIN_EVENT_STARTED => DomainChange::Started,
            sys::VIR_DOMAIN_EVENT_STOPPED => DomainChange::Stopped,
            _ => DomainChange::Changing,
        };
        sink.deliver(DomainEvent { domain_id, change });
    }
    0
}

/// Frees the box of a sink.
///
/// # Safety
/// `opaque` comes from `LifecycleSubscription::new` and is used by nobody afterwards.
unsafe extern "C" fn free_sink(opaque: *mut c_void) {
    // SAFETY: see above.
    drop(unsafe { Box::from_raw(opaque.cast::<Arc<dyn EventSink>>()) });
}

/// # Safety
/// `domain` must be valid.
unsafe fn domain_uuid(domain: sys::virDomainPtr) -> Option<ObjectId> {
    let mut bytes = [0_u8; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: libvirt writes exactly VIR_UUID_BUFLEN (16) bytes.
    let answer = unsafe { sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) };
    (answer == 0)
        .then(|| ObjectId::from_slice(&bytes))
        .flatten()
}

/// What one bulk call tells of one domain, in libvirt's own numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct DomainStats {
    pub(super) domain_id: ObjectId,
    /// `None` while there is no guest process.
    pub(super) run_id: Option<u32>,
    pub(super) state: i32,
    pub(super) reason: i32,
    pub(super) cpu_time_ns: u64,
    pub(super) memory_rss_kib: u64,
}

/// State, processor time and memory of all domains in one call, without waiting for those that
/// libvirt is busy with (of these, only what needs no waiting is filled in).
pub(super) fn all_domain_stats(connection: &Connect) -> Result<Vec<DomainStats>, Error> {
    const WANTED: u32 = sys::VIR_DOMAIN_STATS_STATE
        | sys::VIR_DOMAIN_STATS_CPU_TOTAL
        | sys::VIR_DOMAIN_STATS_BALLOON;
    let mut records: *mut sys::virDomainStatsRecordPtr = std::ptr::null_mut();
    // SAFETY: the connection is alive; libvirt stores a list that we free below.
    let count = unsafe {
        sys::virConnectGetAllDomainStats(
            connection.as_ptr(),
            WANTED,
            &raw mut records,
            sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
        )
    };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut all = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: the list has `count` valid records, each with a domain and `nparams` parameters.
        unsafe {
            let record = &**records.add(index);
            let Some(domain_id) = domain_uuid(record.dom) else {
                continue;
            };
            // (unsigned) -1 is libvirt's "not running".
            let run_id = Some(sys::virDomainGetID(record.dom)).filter(|id| *id != u32::MAX);
            let mut stats = DomainStats {
                domain_id,
                run_id,
                state: 0,
                reason: 0,
                cpu_time_ns: 0,
                memory_rss_kib: 0,
            };
            for number in 0..usize::try_from(record.nparams).unwrap_or(0) {
                read_parameter(&*record.params.add(number), &mut stats);
            }
            all.push(stats);
        }
    }
    if !records.is_null() {
        // SAFETY: the list came from libvirt and is not used any more.
        unsafe { sys::virDomainStatsRecordListFree(records) };
    }
    Ok(all)
}

/// # Safety
/// The parameter's type must tell which member of its union is set, as libvirt's do.
unsafe fn read_parameter(parameter: &sys::virTypedParameter, stats: &mut DomainStats) {
    // SAFETY: field names are zero-terminated; members are read as their type says.
    unsafe {
        let name = CStr::from_ptr(parameter.field.as_ptr());
        let value = &parameter.value;
        match (parameter.type_.cast_unsigned(), name.to_bytes()) {
            (sys::VIR_TYPED_PARAM_INT, b"state.state") => stats.state = value.i,
            (sys::VIR_TYPED_PARAM_INT, b"state.reason") => stats.reason = value.i,
            (sys::VIR_TYPED_PARAM_ULLONG, b"cpu.time") => stats.cpu_time_ns = value.ul,
            (sys::VIR_TYPED_PARAM_ULLONG, b"balloon.rss") => stats.memory_rss_kib = value.ul,
            _ => {}
        }
    }
}
