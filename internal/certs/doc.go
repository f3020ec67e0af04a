// Package certs is who is who between nodes: it makes a cluster's certificate authority and the certificates of its nodes, and it is the TLS of the
// connections between them.
//
//	CA ──signs──▶ certificate of node a   SAN URI repld://CLUSTER/node/a, SAN DNS a
//	   ──signs──▶ certificate of node b   …
//
// Guarantees:
//
//   - Both ends show a certificate of the CA and speak TLS 1.3; nothing older, nothing without a certificate, no resumed session that would skip the look
//     at it.
//   - A certificate counts for the node that it names, and for no other: the dialer checks the name of the node that it dials, and both check the name that
//     the other says in the preface (Conn.Verify). A stolen certificate of one node does not make another.
//   - A private key is read only from a file that nobody but its owner can read; files that this package makes are 0600 and never replace one that is
//     there, except by Renew, which replaces a certificate (never a key) at once or not at all.
//   - New files are taken while the node runs; files that do not fit leave the old ones in force, and say so.
//
// A name is pinned by a URI with cluster and node. For certificates of an authority that issues no such URIs, a DNS name that is exactly the node's
// name counts as well; then the authority must not sign these names for anybody else.
package certs
