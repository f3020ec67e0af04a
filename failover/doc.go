// Package failover decides who may write in a group: the epoch, its holder, and how both change.
//
// # Guarantees
//
//   - R3: an epoch is in two checksummed slots, synced, before anything is answered under it (Slots, Fence). From
//     then on every lower epoch is refused with the newer one.
//   - R2: one epoch has one holder: a Fence grants it once, a token Store changes by compare-and-set, and without a
//     shared store the sets of nodes that must grant an epoch intersect (Decide).
//   - R5, R6, R11: a promotion continues a log that holds everything acked, by a rule that is a pure function
//     (Decide), or says what it cannot show, and goes on only with consent, with the range given up in the plan and
//     in the epoch-start record.
//   - R10: after a failed write or sync nothing more is promised; the node steps down and leaves.
//   - R12: every step has a bound; a step that may take long has one on the time without progress.
//   - R14: a lease ends before the promises behind it, and whoever is promoted hears of one of them (Lease, Promise).
//   - R15: a node that learns of a higher epoch steps down at once, in the middle of whatever it does, and follows
//     the new holder.
//
// # Assumptions
//
// The directory is this process's own and durable. Peers answer for the disk they have: a node whose disk was emptied
// or set back says that it is no voter (R11). The host checks the epoch of every frame and ack against the Fence
// (R4), and reads the position that it reports to a candidate after the grant is persisted. Without a shared token
// store the data nodes that take part stay the same while epochs change hands.
//
// # Roles
//
// The Machine is pure: events in, actions out. The Runner owns it, and does what it says through the Host.
//
//	           promote                     survey: refused, disturbing nobody
//	standby ─────────────▶ candidate ──────────────────────────────────────────▶ standby
//	   ▲                       │ survey ▸ token ▸ fence ▸ fast-forward ▸ epoch start ▸ replay
//	   │                       ▼
//	   │ writer stopped     active: clients write
//	   │                       │ higher epoch, demote, handed over, storage failed
//	   │                       ▼
//	   └─────────────────── fenced: clients closed, writer stopping ─────▶ exit, when storage failed
//
// A candidate with a writer (from epoch start on) that fails goes by way of fenced too. A witness has no data and no
// role machine.
//
// # Automatic failover
//
// The Detector, pure as well, is one more source of PromoteRequested beside the person: it decides when a promotion is tried, from
// heartbeats, resets and silence that was listened for, after a poll in which a majority of the voters agrees. Whether it may is R5's business as ever.
// Lease and Promise are the two sides of R14: until when the active may answer reads, and what a voter still owes to an older one.
//
// # Tenures
//
// A Tenure is an epoch, its holder, and the sync set (V, k) that it began with or has now. Nodes and the token
// remember the last ones. A grant is remembered as a tenure before its holder writes, so an unfinished promotion can
// only make the next one ask more nodes, never fewer.
//
// # Files
//
// The epoch file holds two slots, 64 KiB apart, each one box; a revision of the token is a file of one box. Little
// endian:
//
//	 0  magic u32     "RPE1" (epoch) or "RPT1" (token); the last byte is the version
//	 4  length u32    of the document
//	 8  number u64    generation (epoch) or revision (token)
//	16  hash u64      xxhash64 of bytes 0..15 and the document
//	24  document      State or Record in JSON
//
//	epoch                         both slots, rewritten one after the other
//	token/00000000000000000007.token   the newest revision counts; older ones are pruned
package failover
