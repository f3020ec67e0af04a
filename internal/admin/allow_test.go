package admin

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPermits(t *testing.T) {
	own := os.Geteuid()
	for _, tc := range []struct {
		a        Allow
		uid, gid int
		ok       bool
	}{
		{Allow{}, 4711, 4711, true},
		{Allow{Users: []int{7}}, 7, 1, true}, {Allow{Users: []int{7}}, 8, 7, false}, {Allow{Groups: []int{7}}, 8, 7, true}, {Allow{Groups: []int{7}}, 7, 8, false},
		{Allow{Users: []int{7}}, 0, 9, true}, {Allow{Users: []int{7}}, own, 9, true},
	} {
		if got := tc.a.Permits(tc.uid, tc.gid); got != tc.ok {
			t.Errorf("%+v permits %d:%d: %t", tc.a, tc.uid, tc.gid, got)
		}
	}
}

// A process of a user who is not listed is refused although the file's permissions let it connect, and is told so; the one that is listed gets through.
func TestRestrict(t *testing.T) {
	if os.Geteuid() != 0 {
		// Only root can become somebody else. The decision itself is in TestPermits.
		t.Log("not root: only the own user is tried")
	}
	dir, err := os.MkdirTemp("", "allow")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	inner, err := Listen(path, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan Caller, 1)
	l := Restrict(inner, Allow{Users: []int{12345}}, "-NOPERM this user may not connect\r\n", func(c Caller) { refused <- c })
	accepted := make(chan net.Conn, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	defer func() {
		_ = l.Close()
		<-done
	}()
	for _, uid := range []int{os.Geteuid(), 12345, 65534} {
		if uid != os.Geteuid() && os.Geteuid() != 0 {
			continue
		}
		c, err := dialAs(uid, path)
		if err != nil {
			t.Fatalf("uid %d: %v", uid, err)
		}
		if uid == 65534 {
			if text, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(text), "-NOPERM") {
				t.Errorf("told %q, %v", text, err)
			}
			if who := <-refused; who.UID != uid || !who.Known || who.PID != os.Getpid() {
				t.Errorf("refused %+v", who)
			}
		} else if err := (<-accepted).Close(); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
}

// dialAs connects as another user: the thread becomes that user, and ends with its goroutine because it is never unlocked.
func dialAs(uid int, path string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	got := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		if uid != os.Geteuid() {
			// The raw call changes this thread alone.
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
				got <- result{nil, errno}
				return
			}
		}
		c, err := net.Dial("unix", path)
		got <- result{c, err}
	}()
	r := <-got
	return r.c, r.err
}
