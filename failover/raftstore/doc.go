// Package raftstore keeps the epoch token in an embedded raft log (hashicorp/raft) that all data nodes and witnesses vote on.
//
// # Guarantees
//
//   - CompareAndSet is one on all voters: failover.Advance decides in the state machine, in the order of the log. It is done once even when the leader that was
//     asked is lost and the next one is asked again.
//   - Load is linearizable: the leader answers, after a majority confirmed in its own term that it leads.
//   - R10: after a failed write or sync of the journal nothing more is promised and the node is told to leave.
//   - R11: a voter whose disk is new does not vote before a majority of the others has taken it in; with a majority of disks lost at once, nobody decides
//     until a person has said so (docs/operating).
//   - A majority of the voters, wherever they are, is enough to go on. The very first start alone needs every voter once.
//
// # Assumptions
//
// Streams come from the sessions between nodes, which know who is at the other end. The directory is this voter's alone and is not set back to an
// older copy: a voter that forgot promises under its old id cannot be told from one that never made them.
//
// # Who is a voter
//
// A journal draws an id when it is made. Raft knows a voter by name and id, b@3f0c…, as its id and as its address, and a stream of raft's begins with the
// address that it is meant for. So what was meant for a voter that lost its disk does not reach the one that has its name now.
//
//	no journal ─▶ new id ─▶ ask all voters ─┬─ all answer, all new ──▶ the first by name begins the log, with the ids of all
//	                                        ├─ a log names this id ──▶ take part
//	                                        ├─ a log does not ───────▶ ask its leader: old id out, new id in ─▶ take part
//	                                        └─ one is silent, none takes part ─▶ wait
//
// # Files
//
// Two journals, written one after the other and each synced, hold what raft wants durable: term, vote, log, snapshot. A record, little endian:
//
//	 0  magic u32     "RPJ1", the last byte is the version
//	 4  length u32    of the document
//	 8  number u64    of the change, without gaps
//	16  hash u64      xxhash64 of bytes 0..15 and the document, seeded with the previous record's hash (0 for a file's first)
//	24  document      a change in JSON; the first record of a file holds the whole state
//
// A file that does not end with a whole record was being written at a crash, or is damaged: the other one is whole then, and not behind. If that is not so
// the voter refuses to start. A file that has grown is written anew from the state, aside, synced and renamed. All of it is a few kilobytes.
package raftstore
