// Package kv is the state of a group: what the records of its log have made of it, kept in Pebble.
//
// # Guarantees
//
//   - The effects of a frame and the applied position that names it become visible, and durable, together. Pebble's own
//     log is off: after a crash the state is exactly what it was at some earlier applied position (never in between,
//     never a mixture), and applying the log from there gives the rest. So recovery is Open, then Apply from Applied.
//   - Effects become visible in LSN order (R7). A frame that does not continue the applied position, by LSN and by
//     chain hash, is refused: a state never mixes two histories.
//   - A standby applies the bytes that the active wrote into the log as they are; two stores at one position hold the
//     same rows and have the same Digest, however their records were grouped and whatever their files look like.
//   - A damaged file gives an error that is ErrCorrupt, never a wrong value.
//   - Nothing here waits for ever in silence (R12): Pebble hides a full disk or a dead one behind a call that never
//     returns, a background error repeated thousands of times a second, or a logger that is expected to exit.
//     All three end in one call of Options.OnFatal within Options.StallLimit.
//
// # Assumptions
//
// The log holds everything above DurablyApplied; frames given to Apply are committed; one goroutine applies. After OnFatal the node
// gives the group up (R10): the call that was in progress may never return.
//
// # Rows
//
// Every key of Pebble begins with its class. Numbers in keys are big endian, so that rows sort by them.
//
//	00 'p'                      -> version u8 · epoch u64 · LSN u64 · chain hash u64     applied position
//	00 'n'                      -> u64                                                   number of user keys
//	01 userkey                  -> head u8 · uvarint expireAt · value                    meta row: what the key holds
//	02 id(8) subkey             -> …                                                     rows of collections
//	03 expireAt(8) userkey      -> empty                                                 expiry index
//	04 id                       -> version u8 · expireAt u64 · hash u64 · reply          result of the write with that id
//	05 expireAt(8) id           -> empty                                                 when it may go
//
//	head: high half version (0), low half Type.   expireAt: unix milliseconds, 0 = never.
//
// User keys stand unescaped, so they iterate in byte order. Class 02 is not written yet: a hash, set, sorted set or
// list will hold its id and length in its meta row and its elements under 02 id; the id is the LSN of the record that
// created it (and a count within the record), so it is never used twice, and deleting the key is one range delete of
// 02 id. A group has its own directory and its own Pebble, so rows need no group prefix.
//
// # Effects
//
// The payload of a wal.KindEffects record:
//
//	+-----------+--------------------------------------------------------------+
//	| uvarint n | n operations, each in the encoding of Pebble's batches:      |
//	|           |   kind u8 · uvarint length · key [· uvarint length · value]  |
//	+-----------+--------------------------------------------------------------+
//
// Kinds are 0 (delete), 1 (set) and 15 (range delete, value = exclusive end), for rows of classes 01, 03, 04 and 05; the only range
// is [01, 04), everything that users put: results by id stay, so that a FLUSHALL between two tries of a write does not make it happen
// twice. A record that changes the number of keys carries one more operation, the last, which sets the row
// 00 'n'. Anything else is refused (ErrBadEffects), so a payload can neither move the applied position nor smuggle in
// what a later version writes.
//
// # Evaluating writes
//
// A Sequencer holds the effects of records that are in the log but not yet applied (the overlay), so that the next write sees them:
//
//	Begin ─> Txn: reads own effects, then overlay, then Pebble ─> Effects ─> log.Append = lsn ─> Commit(lsn): into the overlay
//	                                                                          frame committed ─> Apply ─> Applied(lsn): out of it
//
// Apply comes before Applied, so a key is at every moment in the overlay, in Pebble, or the same in both.
package kv
