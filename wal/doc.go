// Package wal is the log: frames of records in segment files, group commit, recovery, and readers that follow it.
//
// # Guarantees
//
//   - What Durable, OnDurable or AppendFrames called durable is there after any crash, and after damage it is either there or its
//     loss is an error or a reported doubt, never silence (R1, R8).
//   - A frame is the same bytes on disk, on the wire and in the archive. Equal (LSN, hash) on two nodes means equal history.
//   - A flipped, cut, swapped, repeated or misplaced piece is detected: each frame's hash is seeded with the hash of the one
//     before, each segment says whose it is and where it belongs.
//   - After a failed write or sync nothing more is acked and the sync is not retried (R10).
//   - A suffix is saved before it is cut (R9).
//
// It assumes that the disk writes sectors of 512 bytes whole or not at all, that a sync that succeeded is true, that nobody
// else writes into the directory (the node holds a lock), and that rot does not forge a 64-bit hash.
//
// # Frame
//
// Little endian. A frame is never larger than its raw payload and 64 bytes; a payload that does not shrink is stored raw.
//
//	 0        4     5     6      8             12          16          20                24
//	┌────────┬─────┬─────┬──────┬─────────────┬───────────┬───────────┬─────────────────┬─────────┐
//	│ "RPF1" │codec│flags│check │ stored len  │ raw len   │ records   │ committed delta │ epoch   │
//	├────────┴─────┼─────┴──────┼─────────────┼───────────┴───────────┴─────────────────┴─────────┤
//	│ 32 first LSN │ 40 time ns │ 48 prev hash│ 56 hash = xxhash64(seed prev hash, 0..55 + payload)│
//	├──────────────┴────────────┴─────────────┴────────────────────────────────────────────────────┤
//	│ 64 payload, by the codec: none, S2 or zstd                                                     │
//	└──────────────────────────────────────────────────────────────────────────────────────────────┘
//	payload, decompressed: for each record  kind u8 · length uvarint · bytes
//
// codec: 1 none, 2 S2, 3 zstd. check: CRC-16 of the header without check and hash, so that the length can be trusted although
// the payload is torn. committed delta: first LSN - 1 - committed LSN when it was written; all ones is "unknown". The places of
// magic, check, hash and what they cover stay the same in every version.
//
// # Segment
//
// A file of SegmentBytes, filled with zeros and synced ahead of need, so that a commit changes no metadata and its fdatasync
// is quick. A trimmed segment is recycled: its old frames stay where they are until they are overwritten.
//
//	0         256                                                        SegmentBytes
//	┌─────────┬─────────┬─────────┬──────┬─────────┬────────────┬───────────────────┐
//	│ header  │ frame   │ frame   │ join │ frame   │ 64 zeros   │ zeros or old bytes│
//	└─────────┴─────────┴─────────┴──────┴─────────┴────────────┴───────────────────┘
//	                              └ one write ─────┘
//
// Header: cluster, group, incarnation, sequence, first LSN, the position before it, a checksum. It is synced before the first
// frame, and everything in earlier segments is synced before it, so a header proves what it says.
//
// Every write of frames ends with 64 zeros, which the next write overwrites: zeros where a frame is expected are the clean end,
// anything else is torn or damaged, never old bytes. A frame that was written together with the frames before it (a standby
// appends several at once) has a join mark in front, because frames of one write do not prove each other durable.
//
// # Files
//
//	00000000000000000007.seg     segment 7; with zeros for a header: prepared, not in use yet
//	00000000000000000003.spare   recycled, waits to be used again
//	clean                        clean-stop mark: nothing follows this position
//	intent                       a cut or reset is under way; whoever finds it does it again
//	doubt                        a tail was cut that may have been durable
//	*.tmp                        half made
//
// # Recovery
//
//  1. An intent is done again from its beginning: cut or reset happened, or did not.
//  2. Segment numbers have no gaps; every header is sound, of this log, in its place. The last files may have no header: they
//     were prepared. Anything else is refused (ErrCorrupt, ErrForeign, ErrVersion).
//  3. Every frame of every segment is read: hash, chain, LSN, epoch. A full segment has to end where the next one begins.
//  4. Behind the last frame of the last segment: zeros and no sound frame further on are the clean end.
//  5. A sound frame of another write with an LSN that is still to come, anywhere behind, proves damage: refused. Frames of
//     lower LSNs are a recycled segment's and do not count; frames of the same write prove nothing.
//  6. The clean-stop mark and KnownDurable are proof as well: the log never ends below them.
//  7. What is left is cut. If nothing proves that the write never reached the disk completely (a sector of it still zero, its
//     terminator missing), it may have been acked: Doubt, noted durably until SettleDoubt.
//  8. The last write is written again and synced: it may be in the page cache only, after a sync that failed.
//  9. The clean-stop mark goes, durably, before anything is appended.
//
// Before 7 nothing is changed but leftovers, so a refused log is as it was. decide holds 4 to 7 and is pure.
//
// # Writing
//
// Log is synchronous: a standby appends and syncs on its own goroutine (AppendFrames). Writer is group commit on top of it for the
// active: Append copies a record into the frame that fills, one goroutine writes it, publishes it to readers, syncs, calls
// OnDurable. Readers get frames before the sync, so that a standby's sync overlaps ours.
package wal
