// Package admin is the operator's API of a node: HTTP and JSON on a unix socket, and the client that replctl uses.
//
//	replctl ──unix socket──▶ node a ──mesh──▶ nodes b, c        any node answers for the cluster and
//	                                                            forwards what another one has to do
//
// Short questions answer with one JSON document. Long work (promote, demote, switchover, verify) answers at once with status 200 and
// streams one Event a line; the last one has Done set and carries either the result or a code and an error, so a person sees
// progress and a program never has to guess whether a connection that ended early meant success: without a Done event the
// client reports a failure of unknown outcome.
//
// What it guarantees: every request body is limited and decoded strictly (an unknown field is refused, so that a newer replctl
// cannot ask an older node for a --plan that it would ignore); every answer is limited on the client; all failures of a request carry one
// of the Code… values.
//
// What it assumes: whoever can open the socket may administer the node; the socket's file permissions are the access control.
package admin
