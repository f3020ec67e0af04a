// Package faultfs is storage that fails on purpose, for tests. It has two halves that are used alone or one on the other.
//
// Disk is a file system in memory that remembers every operation which changed it. One recorded life is enough to ask what any power cut of
// it would have left: Crash(n, policy) builds the disk as it may be found when operation n was the first that did not happen.
//
//	life ──▶ [0 create][1 write][2 write][3 sync][4 rename][5 write] …        one index a change, shared by all Disks of one Clock
//	              │        │        └────┴── durable before 4         │
//	              │        └───────────────  durable before 4         └── Crash(6, p): unsynced are 0, 4 and 5; p says which of them happened
//	              └── the name, not the content: durable once the directory is synced
//
// FS wraps any vfs.FS and makes operations fail by rules: short, lost, misdirected and stale writes and reads, flipped bits, errors, a failed
// sync that drops what was written, slow and stuck calls. Rules choose by kind of operation, path, occurrence, and by chance from a seed.
//
// What Disk assumes of a disk is the least that POSIX promises:
//
//   - A write is durable once its file was synced after it, a name once its directory was; a rename once both of its directories were.
//   - Until then each may be lost or kept by itself, in any order; a write may also be kept in part (any of its 512-byte sectors; any prefix, if the
//     policy is Torn), or leave zeros. A rename happens or does not: never half.
//   - RemoveAll is many removals, each of which may be lost.
//
// Why not vfs.MemFS and its CrashClone, which the tests of the log use: it cannot keep an unsynced removal or rename (the old name always comes
// back), never tears a write within 4 KiB, cannot lose just one write, has no notion of dropped pages, and can only be asked while the life goes on.
// It is good for a quick look between two operations; Disk is for all of them, afterwards.
//
// Memory: a Disk keeps a copy of all that was ever written to it.
package faultfs
