//! Ids: dense `u32` indices into the tables of a graph or a network, one type for each table.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(pub u32);

        impl $name {
            /// The index this id stands for.
            #[inline]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A task of one [`TaskGraph`](crate::TaskGraph), in the order in which it was added, from 0.
    TaskId, "t"
);
id!(
    /// A resource of one [`Network`](crate::Network), in the order in which it was added, from 0.
    ResourceId, "r"
);
id!(
    /// An in-order stream of one [`GraphBuilder`](crate::GraphBuilder), from 0.
    StreamId, "s"
);
