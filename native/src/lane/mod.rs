//! A lane: one thread with its queues of every TAP and one socket of every port, both directions.
//!
//! A turn serves each descriptor that is ready once: at most [`encap::FRAMES`] frames from a TAP's queue, at most one receive batch
//! from a socket; everything taken is handed on before the turn ends. What a lane looks up is the snapshot that was current when the
//! turn began. The lane is told of devices by commands and tells the control thread of what it saw by bounded reports; it
//! never waits for either.

mod bare;
mod decap;
mod encap;
mod limit;
mod proxy;
mod wait;

pub use encap::path_error;

use crate::counters::{LaneCounters, NetworkCounters};
use crate::drops::DropReason;
use crate::io::error::SysError;
use crate::io::event::{Epoll, Waker, set_nice};
use crate::io::pool::SendPool;
use crate::io::raw::RawSocket;
use crate::io::receive::ReceiveBatch;
use crate::io::tap::{TapOffloads, TapQueue};
use crate::io::udp::ReceiveSocket;
use crate::offload::coalesce::Coalescer;
use crate::tables::Snapshot;
use crate::wire::{Framing, Mac};
use arc_swap::ArcSwap;
use std::io::IoSlice;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wait::{Turn, Waiting};

/// Most segments in one TAP write: the kernel refuses UDP superframes beyond 64.
const MAX_SEGMENTS: usize = 64;
/// Nice value of lanes. The kernel forwards in softirqs, before any thread; a lane has to wait its turn among those whose packets it
/// moves. On a machine whose CPUs are all busy a round trip beside a bulk flow took 7.6 ms at nice 0, 25 us at -10. A real-time class
/// would starve the senders that fill the batches.
const NICE: i32 = -10;
/// Longest time in microseconds that a lane looks for work before it sleeps, unless somebody sets another: about what it costs to be woken.
pub const SPIN_US: u32 = 50;
/// The longest that may be set: beyond it sleeping is cheaper whatever comes.
pub const MAX_SPIN_US: u32 = 1_000;
/// How long the control thread waits for a lane to let go of a descriptor.
const LET_GO: Duration = Duration::from_secs(2);

/// What a lane saw that the control thread decides about.
pub enum Report {
    /// A source MAC on a learning network that the FDB does not have there.
    Seen {
        /// Network.
        slot: usize,
        /// Inner source.
        mac: Mac,
        /// Outer source.
        ip: IpAddr,
    },
    /// No destination for a unicast MAC.
    MissMac {
        /// Network.
        slot: usize,
        /// Destination looked for.
        mac: Mac,
    },
    /// The proxy knows no neighbour.
    MissIp {
        /// Network.
        slot: usize,
        /// Address asked for.
        ip: IpAddr,
    },
    /// A system call on the packet path failed in a way that an operator should know.
    Fault {
        /// Network, where one is concerned.
        slot: Option<usize>,
        /// The call.
        call: &'static str,
        /// Its error.
        errno: i32,
    },
}

/// A network's devices, as handed to one lane.
pub struct Device {
    /// Network.
    pub slot: usize,
    /// Frames or bare packets.
    pub framing: Framing,
    /// This lane's queues. Frames are written to the first.
    pub queues: Vec<Arc<TapQueue>>,
    /// What the TAP takes.
    pub offloads: TapOffloads,
    /// Where frames leave.
    pub pool: Arc<SendPool>,
    /// By which a layer-3 network answers senders on this host's side.
    pub answers: Option<Arc<RawSocket>>,
    /// This lane's counters of the network.
    pub counters: Arc<NetworkCounters>,
}

impl Device {
    /// Writes one frame or superframe to the TAP: the virtio header first, then the frame's pieces.
    fn write(&self, pieces: &[IoSlice<'_>]) -> Result<(), i32> {
        let Some(queue) = self.queues.first() else { return Err(libc::EBADFD) };
        queue.write(pieces).map(|_| ()).map_err(|error| error.raw_os_error().unwrap_or(0))
    }
}

enum Command {
    AddDevice(Box<Device>),
    SetOffloads(usize, TapOffloads),
    SetPool(usize, Arc<SendPool>),
    RemoveDevice(usize, Sender<()>),
    AddSocket(Arc<ReceiveSocket>),
    RemoveSocket(Arc<ReceiveSocket>, Sender<()>),
    Stop,
}

/// The control thread's end of a lane.
pub struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    /// What the lane counts.
    pub counters: Arc<LaneCounters>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    fn tell(&self, command: Command) {
        // A lane ends only after Stop, so there is somebody to receive.
        let _ = self.commands.send(command);
        self.waker.wake();
    }

    /// Gives the lane a queue.
    pub fn add_device(&self, device: Device) {
        self.tell(Command::AddDevice(Box::new(device)));
    }

    /// Says what a device's TAP takes from now on.
    pub fn set_offloads(&self, slot: usize, offloads: TapOffloads) {
        self.tell(Command::SetOffloads(slot, offloads));
    }

    /// Says where a device's frames leave from now on.
    pub fn set_pool(&self, slot: usize, pool: Arc<SendPool>) {
        self.tell(Command::SetPool(slot, pool));
    }

    /// Takes a queue away and waits until the lane no longer holds it.
    pub fn remove_device(&self, slot: usize) {
        let (done, wait) = channel();
        self.tell(Command::RemoveDevice(slot, done));
        let _ = wait.recv_timeout(LET_GO);
    }

    /// Gives the lane a socket.
    pub fn add_socket(&self, socket: Arc<ReceiveSocket>) {
        self.tell(Command::AddSocket(socket));
    }

    /// Takes a socket away and waits until the lane no longer holds it.
    pub fn remove_socket(&self, socket: &Arc<ReceiveSocket>) {
        let (done, wait) = channel();
        self.tell(Command::RemoveSocket(Arc::clone(socket), done));
        let _ = wait.recv_timeout(LET_GO);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What all lanes share with the control thread.
#[derive(Clone)]
pub struct Shared {
    /// The tables.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where reports go; full means the report is counted and left out.
    pub reports: SyncSender<Report>,
    /// Tells the control thread that there are reports.
    pub waker: Arc<Waker>,
    /// Zero of the clock of ages and last-heard times.
    pub started: Instant,
    /// Longest time in microseconds that a lane looks for work before it sleeps.
    pub spin_us: Arc<AtomicU32>,
}

/// Starts a lane without devices.
pub fn start(number: usize, shared: Shared) -> Result<Handle, SysError> {
    let waker = Arc::new(Waker::new()?);
    let (commands, receiver) = channel();
    let counters = Arc::new(LaneCounters::default());
    let epoll = Epoll::new(64)?;
    epoll.add(waker.fd(), WAKER)?;
    let lane = Lane {
        commands: receiver,
        waker: Arc::clone(&waker),
        epoll,
        devices: Vec::new(),
        sockets: Vec::new(),
        context: Context {
            snapshot: shared.snapshot.load_full(),
            shared,
            counters: Arc::clone(&counters),
            now: 0,
            reported: false,
        },
        out: encap::Out::default(),
        receive: ReceiveBatch::default(),
    };
    let thread = std::thread::Builder::new()
        .name(format!("lane{number}"))
        .spawn(move || {
            // Without the right to it, a lane works all the same.
            let _ = set_nice(NICE);
            lane.run();
        })
        .map_err(|error| SysError::from_io("clone", format!("lane {number}"), &error))?;
    Ok(Handle { commands, waker, counters, thread: Some(thread) })
}

/// Numbers of descriptors: a socket's place, or a network's slot and which of its queues.
const WAKER: u64 = u64::MAX;
const SOCKETS: u64 = 1 << 32;
const QUEUE_SHIFT: u32 = 33;

fn queue_number(slot: usize, queue: usize) -> u64 {
    slot as u64 | (queue as u64) << QUEUE_SHIFT
}

/// What both directions need in a turn.
struct Context {
    shared: Shared,
    snapshot: Arc<Snapshot>,
    counters: Arc<LaneCounters>,
    /// Seconds since the dataplane started.
    now: u32,
    reported: bool,
}

impl Context {
    fn report(&mut self, report: Report) {
        self.reported = true;
        if self.shared.reports.try_send(report).is_err() {
            self.counters.reports_lost.add(1);
        }
    }
}

/// A device with what a lane keeps for it.
struct Port {
    device: Device,
    coalescer: Coalescer,
    /// The coalescer holds frames.
    pending: bool,
}

struct Lane {
    commands: Receiver<Command>,
    waker: Arc<Waker>,
    epoll: Epoll,
    devices: Vec<Option<Port>>,
    sockets: Vec<Option<Arc<ReceiveSocket>>>,
    context: Context,
    out: encap::Out,
    receive: ReceiveBatch,
}

impl Lane {
    fn run(mut self) {
        let mut ready: Vec<(u64, bool)> = Vec::with_capacity(64);
        let mut waiting = Waiting::default();
        let mut turn = Turn::default();
        loop {
            ready.clear();
            let spin = Duration::from_micros(self.context.shared.spin_us.load(Relaxed).into());
            waiting.wait(&mut self.epoll, &mut ready, turn, spin, &self.context.counters.spin_us);
            self.context.counters.turns.add(1);
            let begin = Instant::now();
            self.context.now = u32::try_from(begin.duration_since(self.context.shared.started).as_secs()).unwrap_or(u32::MAX);
            if ready.iter().any(|(number, _)| *number == WAKER) && !self.obey() {
                return;
            }
            if !Arc::ptr_eq(&self.context.snapshot, &*self.context.shared.snapshot.load()) {
                self.context.snapshot = self.context.shared.snapshot.load_full();
            }
            let queues = ready.iter().filter(|(number, _)| number & SOCKETS == 0).count();
            for (number, broken) in &ready {
                self.serve(*number, *broken, queues);
            }
            if std::mem::take(&mut self.context.reported) {
                self.context.shared.waker.wake();
            }
            let from_socket = |(number, _): &(u64, bool)| number & SOCKETS != 0 && *number != WAKER;
            let moved = self.context.counters.rx_bytes.get() + self.context.counters.tx_bytes.get();
            turn = Turn { out: queues > 0, into: ready.iter().any(from_socket), moved };
            let spent = u64::try_from(begin.elapsed().as_micros()).unwrap_or(0);
            self.context.counters.busy_us.add(spent);
            self.context.counters.longest_turn_us.raise_to(spent);
        }
    }

    /// Takes from one descriptor; so many queues are ready.
    fn serve(&mut self, number: u64, broken: bool, queues: usize) {
        if number == WAKER {
            return;
        }
        let index = (number & (SOCKETS - 1)) as usize;
        if number & SOCKETS != 0 {
            if let Some(Some(socket)) = self.sockets.get(index) {
                match socket.framing {
                    Framing::Ethernet => decap::serve(&mut self.context, socket, &mut self.receive, &mut self.devices),
                    Framing::Bare => bare::serve(&mut self.context, socket, &mut self.receive, &mut self.devices, &mut self.out),
                }
            }
            return;
        }
        let Some(port) = self.devices.get_mut(index).and_then(Option::as_mut) else { return };
        if broken {
            // EPOLLERR without input: the device is down or gone. The control thread sees it by netlink; until it is back
            // or taken away, do not spin on it.
            port.device.queues.iter().for_each(|queue| self.epoll.remove(queue.fd()));
            self.context.report(Report::Fault { slot: Some(index), call: "poll", errno: libc::EBADFD });
            return;
        }
        if let Some(queue) = port.device.queues.get((number >> QUEUE_SHIFT) as usize) {
            encap::serve(&mut self.context, &port.device, queue, &mut self.out, queues);
        }
    }

    /// Carries out commands; false when the lane is to end.
    fn obey(&mut self) -> bool {
        self.waker.clear();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::AddDevice(device) => {
                    let slot = device.slot;
                    let added =
                        |(queue, held): (usize, &Arc<TapQueue>)| self.epoll.add(held.fd(), queue_number(slot, queue)).is_ok();
                    if !device.queues.iter().enumerate().all(added) {
                        self.context.report(Report::Fault { slot: Some(slot), call: "epoll_ctl", errno: libc::ENOSPC });
                    }
                    let coalescer = coalescer(device.framing, device.offloads);
                    place(&mut self.devices, slot, Port { device: *device, coalescer, pending: false });
                }
                Command::SetOffloads(slot, offloads) => {
                    // Between turns a coalescer is empty.
                    if let Some(port) = self.devices.get_mut(slot).and_then(Option::as_mut) {
                        port.device.offloads = offloads;
                        port.coalescer = coalescer(port.device.framing, offloads);
                    }
                }
                Command::SetPool(slot, pool) => {
                    // Between turns nothing waits to be sent.
                    if let Some(port) = self.devices.get_mut(slot).and_then(Option::as_mut) {
                        port.device.pool = pool;
                    }
                }
                Command::RemoveDevice(slot, done) => {
                    if let Some(port) = self.devices.get_mut(slot).and_then(Option::take) {
                        port.device.queues.iter().for_each(|queue| self.epoll.remove(queue.fd()));
                        drop(port);
                    }
                    let _ = done.send(());
                }
                Command::AddSocket(socket) => {
                    let free = self.sockets.iter().position(Option::is_none).unwrap_or(self.sockets.len());
                    if self.epoll.add(socket.fd(), SOCKETS | free as u64).is_err() {
                        self.context.report(Report::Fault { slot: None, call: "epoll_ctl", errno: libc::ENOSPC });
                    }
                    place(&mut self.sockets, free, socket);
                }
                Command::RemoveSocket(socket, done) => {
                    if let Some(held) =
                        self.sockets.iter_mut().find(|held| held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &socket)))
                    {
                        self.epoll.remove(socket.fd());
                        *held = None;
                    }
                    drop(socket);
                    let _ = done.send(());
                }
                Command::Stop => return false,
            }
        }
        true
    }
}

/// Joins what the TAP takes whole, and nothing else.
fn coalescer(framing: Framing, offloads: TapOffloads) -> Coalescer {
    Coalescer::new(if offloads.tso { MAX_SEGMENTS } else { 1 }, offloads.uso).of(framing)
}

fn place<T>(list: &mut Vec<Option<T>>, index: usize, value: T) {
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    if let Some(place) = list.get_mut(index) {
        *place = Some(value);
    }
}

/// Why a TAP would not take a frame.
fn tap_error(errno: i32) -> DropReason {
    match errno {
        libc::EIO | libc::EBADFD | libc::ENODEV => DropReason::TapDown,
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => DropReason::TapFull,
        _ => DropReason::TapRejected,
    }
}
