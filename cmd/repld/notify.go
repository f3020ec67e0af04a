package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
)

// notifier tells systemd how the service is (sd_notify(3)): one datagram a message to NOTIFY_SOCKET. Without that variable
// it does nothing.
type notifier struct {
	addr   string
	logger *slog.Logger
}

func newNotifier(logger *slog.Logger) notifier {
	addr := os.Getenv("NOTIFY_SOCKET")
	if strings.HasPrefix(addr, "@") {
		addr = "\x00" + addr[1:] // abstract namespace
	}
	return notifier{addr: addr, logger: logger}
}

func (n notifier) enabled() bool { return n.addr != "" }

// send logs a failure: the service manager not hearing us is no reason to stop.
func (n notifier) send(lines ...string) {
	if !n.enabled() {
		return
	}
	if err := n.write(strings.Join(lines, "\n")); err != nil {
		n.logger.Warn("service manager not told", "error", err)
	}
}

func (n notifier) write(text string) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.addr, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("connect to NOTIFY_SOCKET: %w", err)
	}
	defer c.Close()
	_, err = c.Write([]byte(text))
	return err
}
