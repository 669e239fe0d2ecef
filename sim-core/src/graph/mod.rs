//! Task graphs: compact, immutable, shared by reference between runs.
//!
//! Each task has one record, its successors one range of a flat array. A stream is an edge from each task on it to the
//! next; the executor knows no streams.

mod builder;

pub use builder::{GraphBuilder, GraphError, Transfer};

use crate::id::{ResourceId, TaskId};
use crate::rate::Rate;
use crate::time::SimDuration;

/// What a task does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Join,
    Delay,
    Transfer,
}

/// One task; 24 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Picoseconds of a delay, index of a transfer.
    pub value: u64,
    /// Where its successors begin; they end where those of the next record begin.
    pub successors: u32,
    /// How many edges lead here.
    pub degree: u32,
    pub tag: u32,
    pub kind: Kind,
}

/// One transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransferRecord {
    pub bytes: u64,
    pub latency: u64,
    pub cap: u64,
    pub uses: u32,
    pub uses_end: u32,
    /// Its exclusion group, or [`NO_GROUP`], and which of the group's edges it takes.
    pub group: u32,
    pub edge: u32,
}

/// In no exclusion group.
pub(crate) const NO_GROUP: u32 = u32::MAX;

/// Weighted use of a resource.
pub type Use = (ResourceId, u32);

/// An immutable graph of tasks; built by [`GraphBuilder`].
#[derive(Clone, Debug, Default)]
pub struct TaskGraph {
    /// One more than there are tasks: the last record closes the successors.
    pub(crate) records: Vec<Record>,
    pub(crate) successors: Vec<u32>,
    pub(crate) degrees: Vec<u32>,
    pub(crate) roots: Vec<u32>,
    pub(crate) transfers: Vec<TransferRecord>,
    pub(crate) uses: Vec<Use>,
    /// One more than the highest resource in use.
    pub(crate) resources: usize,
    /// One more than the highest exclusion group.
    pub(crate) groups: usize,
}

/// What a task is, for reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskView<'a> {
    /// Takes no time.
    Join,
    /// Takes a fixed time.
    Delay(SimDuration),
    /// Moves bytes.
    Transfer(Transfer<'a>),
}

impl TaskGraph {
    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.degrees.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.degrees.is_empty()
    }

    /// How many edges there are, those of the streams included.
    pub fn edges(&self) -> usize {
        self.successors.len()
    }

    /// How many tasks are transfers.
    pub fn transfers(&self) -> usize {
        self.transfers.len()
    }

    /// The tag of a task, 0 unless set.
    ///
    /// # Panics
    /// When the task is not of this graph.
    pub fn tag(&self, task: TaskId) -> u32 {
        assert!(task.index() < self.len(), "task {task} of a graph of {}", self.len());
        self.records[task.index()].tag
    }

    /// The tasks that wait for `task`; one waiting twice is here twice.
    ///
    /// # Panics
    /// When the task is not of this graph.
    pub fn successors(&self, task: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        let from = self.records[task.index()].successors as usize;
        let to = self.records[task.index() + 1].successors as usize;
        self.successors[from..to].iter().map(|&t| TaskId(t))
    }

    /// What a task does.
    ///
    /// # Panics
    /// When the task is not of this graph.
    pub fn view(&self, task: TaskId) -> TaskView<'_> {
        assert!(task.index() < self.len(), "task {task} of a graph of {}", self.len());
        let record = &self.records[task.index()];
        match record.kind {
            Kind::Join => TaskView::Join,
            Kind::Delay => TaskView::Delay(SimDuration::from_ps(record.value)),
            Kind::Transfer => {
                let t = &self.transfers[record.value as usize];
                TaskView::Transfer(Transfer {
                    bytes: t.bytes,
                    latency: SimDuration::from_ps(t.latency),
                    cap: Rate::from_raw(t.cap),
                    uses: &self.uses[t.uses as usize..t.uses_end as usize],
                })
            }
        }
    }

    /// The exclusion group of a transfer, and which of the group's edges it takes.
    ///
    /// # Panics
    /// When the task is not of this graph.
    pub fn exclusion(&self, task: TaskId) -> Option<(u32, u32)> {
        let record = &self.records[task.index()];
        if record.kind != Kind::Transfer {
            return None;
        }
        let transfer = &self.transfers[record.value as usize];
        (transfer.group != NO_GROUP).then_some((transfer.group, transfer.edge))
    }

    fn clear(&mut self) {
        self.records.clear();
        self.successors.clear();
        self.degrees.clear();
        self.roots.clear();
        self.transfers.clear();
        self.uses.clear();
        self.resources = 0;
        self.groups = 0;
    }
}
