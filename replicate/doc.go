// Package replicate carries the log of a group from the node that serves it to the nodes that stand by: sessions between
// nodes (Mesh), the stream of frames and acks (Sender, Receiver), the search for the place where two histories part
// (Progress), seeding by snapshot, and the rule by which records count as committed (CommitRule).
//
// # Guarantees
//
//   - A standby appends frames byte for byte as they lie in the sender's log, checked by checksum, chain, LSN and epoch,
//     and acks an LSN only after it is durable (R1). Receive, fsync and ack happen on one goroutine.
//   - Before a standby says anything under an epoch it has persisted it; it refuses streams, frames, heartbeats, sync sets
//     and snapshots of an older one and names the newer; a sender that is told of a newer one reports it (R3, R4, R15).
//   - After whatever happens to a connection, streaming resumes from what the standby's log holds: no gap, no duplicate.
//   - A suffix that the sender's history does not contain is saved before it is cut (R9). If the state has applied some of
//     it, the node is rebuilt from a snapshot; nothing is undone (R15).
//   - A committed LSN is reported only up to what is durable here, and only when our log is a part of the sender's (R7).
//   - A node that is blank, seeded, or has lost what it acked does not count for data before it has what the active had
//     when it joined (R11).
//   - Every wait has a deadline or a heartbeat, every length a limit that is checked before memory is taken (R12).
//
// It assumes that wal orders and syncs as it says, that Fence persists before it returns, and that names and addresses of
// the peers are configured alike on all nodes.
//
// # Sessions
//
// There is one yamux session for each pair of nodes. The node whose name sorts lower dials; both accept.
//
//	dialer                                    acceptor
//	  TCP, and TLS if the hooks put it there
//	  preface: cluster, node, to, incarnation, versions ──►
//	  ◄── preface, or a refusal
//	  preface, or a refusal ──►
//	  from here on, without TLS: records with a chained hash (sealedConn), so that no flipped bit is believed (W11)
//	  yamux: streams, each begins with its kind and group
//
// Refused are another cluster, a name that is not expected, an incarnation other than that of the live session of the
// same name, our own incarnation, and versions without overlap; both sides log the same words, once for each change. A
// second session of the same incarnation takes the first one's place. Each side pings; a side to which nothing at all comes
// for IdleTimeout closes. A failed write closes the session, because yamux reports failure for bytes that may still arrive.
//
// # A log stream
//
// The standby opens a stream of kind "log". Every message is: type u8 | payload length u32 LE | payload. Control messages
// are strict JSON of at most 64 KiB; frames, heartbeats, acks and file data are binary.
//
//	standby (Receiver)                        sender (Sender)
//	  hello: group, node, epoch, start, end, applied, voter, purpose ──►
//	                                          epoch and MayServe are checked
//	  ◄── welcome: epoch, holder, sync set, committed, end        or ◄── reject: code, message, epoch, holder
//	  Fence.Observe persists the epoch
//	                                          does our log hold the standby's end (LSN, hash)?
//	  ◄── probe: LSN                          no: binary search for the last common frame end
//	  probed: position ──►                    …
//	  ◄── begin: from
//	  the suffix after from is saved and cut  (or: rebuild ──►, and a snapshot follows)
//	  ready: at ──►
//	  ack ──►
//	  ◄── frame ◄── frame ◄── frame           as they are published, before the sender's own fsync
//	  one append, one fsync
//	  ack: epoch, durable, applied, sync version, voter ──►
//	  ◄── heartbeat: epoch, committed, end, wall clock     each 100 ms, and soon after the committed LSN rose
//	  ack ──►
//	  ◄── sync: set                           Fence.Observe persists it
//	  ack ──►
//
// When the sender's log does not reach back far enough, or the standby must be rebuilt, a snapshot comes first, on the same
// stream, while writes go on:
//
//	◄── manifest
//	want: names of the files that are not here yet ──►
//	◄── file: name, size ◄── data ◄── data …     heartbeats in between; throttled by BulkRate
//	each file is verified when it is closed; then all, renamed, installed
//	resumed: start, end, applied ──►        the search begins again from there
//
// Binary payloads, little endian:
//
//	heartbeat: epoch u64 | committed LSN u64 | end LSN u64 | unix ns i64
//	ack:       epoch u64 | durable LSN u64 | applied LSN u64 | sync set version u64 | voter u8
//
// A fast-forward (R5) is the same stream from a peer that is not active: no sync set is taken, no ack counts, and it ends
// once the log is durable at the position wanted.
//
// # States of a standby at its sender
//
// See Progress for the drawing; testdata/progress holds transcripts.
package replicate
