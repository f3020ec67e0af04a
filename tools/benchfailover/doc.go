// Command benchfailover measures how long writes are away when the active dies, and beside it how long with Redis and Sentinel and with etcd on
// the same machine.
//
// Real processes, each in a network namespace of its own when it runs as root (ip from iproute2): three data nodes. 16 writers in this process write
// without pause, each with one write in flight and a copy on one standby before it is acked (sync 1, WAIT 1, a majority). A round brings one failure about and takes the longest time
// between two acked writes around it:
//
//	kill9       SIGKILL of the active
//	host        its network is gone: every packet from and to it is dropped, nothing is reset
//	pause       SIGSTOP
//	switchover  replctl's hand-over, under load
//
// Each writer lives on the host of one node and uses its socket; repld's sockets forward to the active. A writer that gets no answer for 100 ms (of repld, which says by itself what
// became of a write: 1 s) tries the next node. After each round the newest acked writes of every writer are read back from the new active, as they are or newer: those
// that are missing are lost. Then the failed node comes back and has caught up before the next round.
//
// All rounds together take long. They can be measured in pieces, whose results add up: -systems and -modes choose, -out keeps, and -merge prints what several runs kept:
//
//	benchfailover -systems data -modes kill9 -out kill9.json
//	benchfailover -systems data -modes host -out host.json
//	benchfailover -merge kill9.json host.json
package main
