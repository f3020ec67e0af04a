// Package failpoint lets a test end, stop or delay this process at named places in the middle of protocols that matter: between a write and its sync, between a
// sync and its ack, between the two slots of the epoch file. It exists only in binaries built with the tag failpoints; in all others Hit is an empty function that the
// compiler removes, and Enabled is false.
//
// Places are armed by the environment of the process, once, at its first Hit:
//
//	REPLD_FAILPOINTS="wal.before-sync=kill:17;node.before-apply=sleep:200ms:3"
//
//	kill[:N]      SIGKILL to this process at the N-th hit (default: the first)
//	stop[:N]      SIGSTOP to this process at the N-th hit; it goes on when somebody sends SIGCONT
//	sleep:D[:N]   the N-th hit lasts D
//	panic[:N]     the N-th hit panics
//
// A specification that cannot be understood ends the process: a test that arms nothing would prove nothing.
package failpoint
