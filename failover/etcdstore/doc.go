// Package etcdstore keeps the epoch token as one key of an etcd cluster.
//
// # Guarantees
//
//   - CompareAndSet is one etcd transaction on the key: it succeeds only while the key is as it was read, and failover.Advance, applied to what was read,
//     allows it. An answer that was lost is looked up once by a nonce that is stored with the record; what cannot be told then is an error, never a success.
//   - Load is linearizable: etcd answers after its leader was confirmed.
//   - Watch uses an etcd watch; what it missed, it reads.
//
// # Assumptions
//
// Nobody else writes the key, and the etcd cluster is not restored from a backup while the group runs: a token that was set back would allow an epoch to be
// given twice. The fences on the nodes (R3) still refuse the lower holder wherever the higher one was heard.
//
// There is no etcd lease: an active is kept from answering by the fence and by the read lease of the voters (R14), not by the store: design decision 0013, 13.
package etcdstore
