// Package history records what concurrent clients saw of a cluster, and judges it afterwards. Whoever drives the clients (the torture tool, tests with real nodes)
// uses the same five checks:
//
//	Ledger     every key is written once. What was acked is there (R1), what was refused is not (R13), what is unknown may be either.
//	Registers  a few keys, many clients: is there an order of all operations on a key that explains every answer? (porcupine, key by key)
//	Order      transactions and commands on several keys: each is replayed at its LSN on the state that the log gives there, and every reply and every
//	           effect is compared (R7); the order of LSNs agrees with real time.
//	Tenures    every acked write is in an epoch of the node that acked it, and no write was begun and acked in an older epoch after one of a newer epoch was
//	           acked: no two actives committed in overlapping time (R2).
//	Stitch     the logs of all nodes are one history: one hash for each LSN, epochs that only rise (R2).
//
// # Outcomes
//
// A command that was answered is OK. One that was answered with a code that promises that nothing was written is Refused. Everything else (-UNKNOWN, a broken connection, a
// timeout) is Unknown: it may take effect at any time from its call on, also long after, or never.
//
// # Limits
//
// The time that porcupine takes grows with the number of operations that overlap on one key: at most 8 clients a key, and a new key after some hundred
// operations. A key that it cannot decide in time is reported as undecided, never as good.
package history
