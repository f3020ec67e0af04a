// Package sentinel answers what clients of Redis Sentinel ask: who is the active of the group, and tell me when that changes. Every node serves it, on a
// TCP listener of its own, so that any Sentinel client finds the active with no change to it.
//
//	View.Picture ──► Server ──► get-master-addr-by-name, masters, master, replicas, sentinels, ckquorum, INFO, ROLE
//	View.Changed ──► watch: compare with what was published last ──► +switch-master and the like, to subscribers
//
// # Guarantees
//
//   - Nobody is named as the active unless Picture says that a majority of the voters was heard just now and that the node itself accepts writes. So a node
//     that is cut off, or that stood still, names nobody; clients then ask another one.
//   - +switch-master is published by every endpoint after the new active accepts writes, and once for a change as each endpoint sees it.
//   - A standby that is lagged, does not serve reads or is not connected is never listed under replicas: clients read from what is listed there.
//   - Nothing can be changed through it: SENTINEL SET, REMOVE, FAILOVER and the like are refused.
//   - Memory is bounded for each of MaxClients connections: requests by their limits, unread output by MaxOutputBytes.
//
// # Assumptions
//
// View is cheap to ask. What it says may be old by its own window; who may write is decided by the fence, never by what is said here (R4).
package sentinel
