// Package server speaks the Redis protocol with clients: listeners, sessions, the table of commands.
//
//	socket ──► driver ──► resp.Reader ──► Session ──reads only──► Backend.View ──► handlers ─┐
//	  ▲        (bytes,                     (batch)                                           │ replies into
//	  │       deadlines)                      │                                              ▼ resp.Writer
//	  │                                       └──any write──► Backend.Submit ──► handlers ───┤
//	  │                                                       (sequencer lock)               │
//	  └──────────────────────── when the batch is committed and applied: done ◄──────────────┘
//
// All complete commands that were received form one batch. A batch that only reads is served from committed and applied
// state. A batch with a write is evaluated whole under the group's sequencer lock, over the effects in flight, so that a
// pipeline reads its own writes; each command that has effects becomes one record, and so does a whole EXEC. Replies are
// encoded while evaluating and sent when done tells that all is committed and applied. Commands that may wait, that ask the
// Backend something or that walk many keys are batches of their own and never run under the lock, unless EXEC holds them.
//
// A Session is a state machine apart from its socket: Step tells its driver what to do next. Now one goroutine drives one.
//
// # Guarantees
//
//   - A write is acknowledged only when Backend's done said nil. Refused, it is answered with the reason, the reads of its
//     batch from committed state. With an unknown outcome (R13) each command of the batch that had effects is answered
//     -UNKNOWN, and so are those that may have seen them; clients do not repeat that code by themselves.
//   - Replies and error texts are those of Redis 7.0, byte for byte, for the commands on strings, keys, expiry and
//     transactions: package difftest compares them.
//   - MGET, EXISTS, an EXEC of reads and the like see one state.
//   - Whatever a client sends or does not read: memory is bounded by Limits, MaxOutputBytes and MaxTransactionBytes for each
//     of MaxClients connections; an incomplete request, an idle connection and one that does not read end by a deadline.
//   - A panic in a command ends its connection only; its record is aborted.
//
// # Differences from Redis
//
//   - A time in the past deletes at once (SET … EXAT); expired keys count in DBSIZE until the active's expirer deletes them.
//   - KEYS, SCAN and KV.RANGE answer in byte order; RANDOMKEY is not uniform. See cursors for what a SCAN cursor is.
//   - There is one database. OBJECT ENCODING tells what Redis chooses for a value set whole.
//   - FAILOVER answers when the group is handed over, and is refused inside MULTI; FORCE is refused. WAIT without a timeout
//     ends after an hour. WAITAOF always counts this node, because nothing is acknowledged before it is durable here.
//   - WATCH is refused where writes are. CONFIG SET acts for maxclients, timeout and slowlog-*, and keeps the rest.
//   - ROLE and INFO tell LSNs where Redis tells offsets.
//
// # Assumptions
//
// Backend keeps its contract: done exactly once and within a bound (R12), results in LSN order. The wall clock is only used
// to decide expiry; each batch takes it once, under the lock if it writes.
package server
