// Package snapshot ships the state of a group, at one position, to a node whose log does not reach it: blank, too far
// behind, or holding effects outside the history (R15).
//
//	sender                                              receiver
//
//	Source.Checkpoint ─> staging/ID/ (hard links)
//	   sizes and hashes ─> Manifest ────────────────────> Begin: incoming/ keeps what it has of these files
//	                       Snapshot.Open ── each file ──> File: NAME.part, hashed, synced, renamed to NAME
//	   Release: kept for a while, then removed            Complete: all read back and checked, synced, renamed to state.new/
//	                                                      then the node's: log.Reset(position), state.new -> state
//
// # Guarantees
//
//   - A snapshot's position is exact: its files hold the effects up to there and nothing else.
//   - The target directory of Complete appears by one rename, whole and synced, with every byte checked as read back from the
//     file system; at any crash it is either absent or complete (D22). So its presence alone tells to install it, and
//     installing may be repeated.
//   - A transfer resumes by file, across restarts of either side and across snapshots: files are kept if the new manifest
//     names the same bytes (a state's files are written once, so most are).
//   - Names come from the other side and are not trusted: pattern, length, no duplicates, no name of ours; sizes and counts
//     have limits. Nothing is written outside the incoming directory, and nothing is followed.
//   - Snapshots kept for resuming are few and expire: they hold disk space that compactions would free.
//
// A Ring keeps recent checkpoints on the node itself, for rewinding:
//
//	ring/making/         being made: files linked, synced, hashed; snapshot.json written; then renamed, so that a name below says that it is whole
//	ring/LSN-EPOCH-ID/   a checkpoint; its digest is added later, by replacing snapshot.json
//	ring/gone-…/         being removed
//
// OpenRing removes what a crash left of the first and the last. What a checkpoint shares with the state takes no space of its own; count, age and bytes are bounded.
//
// The Manager's staging directory must be on the state's file system, incoming and target on one file system. Neither
// Manager nor Receiver limits its rate; the stream between them does.
package snapshot
