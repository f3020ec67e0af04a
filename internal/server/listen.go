package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse is a socket path at which another process answers, or that is not a socket.
var ErrInUse = errors.New("socket path in use")

const (
	socketDirMode = 0o750
	probeTimeout  = time.Second
	listenBacklog = 1024
)

// ListenUnix listens on a unix socket with the given permission bits, which hold before anyone can connect: the socket's
// file gets them between bind and listen. A missing directory is made, 0750. A socket file that is there already is
// removed only if nobody listens on it (R12: the probe is bounded). Closing the listener removes the file if it is still
// the listener's own.
func ListenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if len(path) == 0 || len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %q has %d bytes, must have 1 to %d", path, len(path), maxSocketPath)
	}
	if err := makeSocketDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("directory of socket %s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := bindAndListen(path, mode)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	own, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), l.Close())
	}
	return &unixListener{Listener: l, path: path, own: own}, nil
}

// makeSocketDir makes dir with socketDirMode, whatever the process's umask. One that is there is left as it is.
func makeSocketDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, socketDirMode); err != nil {
		return err
	}
	return os.Chmod(dir, socketDirMode)
}

// maxSocketPath is the kernel's limit on Linux, without the zero byte.
const maxSocketPath = 107

func bindAndListen(path string, mode fs.FileMode) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close() // FileListener has a duplicate
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode.Perm()); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, listenBacklog); err != nil {
		return nil, err
	}
	return net.FileListener(file)
}

// removeStale removes a socket file on which nobody listens.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	if st.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%w: %s is there and is no socket (%s)", ErrInUse, path, st.Mode())
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%w: another process answers at %s", ErrInUse, path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: cannot tell whether anyone listens at %s: %w", ErrInUse, path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale socket %s: %w", path, err)
	}
	return nil
}

// unixListener removes its file when it is closed.
type unixListener struct {
	net.Listener
	path string
	own  fs.FileInfo
	once sync.Once
	err  error
}

// Addr is the socket's path.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the file, unless another has taken its place. Later calls do nothing.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.own) {
			l.err = os.Remove(l.path)
		}
		l.err = errors.Join(l.err, l.Listener.Close())
	})
	return l.err
}
