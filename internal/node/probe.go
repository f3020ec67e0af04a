package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
)

// ProbeOptions say how a node asks the application that it serves whether it is well. At most one of RESP, Command and HTTP is set; none: it is not asked.
type ProbeOptions struct {
	RESP     string        // command, like PING, sent to Addr; an error or no reply is a failure
	Addr     string        // host:port or the path of a unix socket; for RESP
	Command  []string      // program and arguments; an exit code other than 0 is a failure
	HTTP     string        // URL; a status other than 2xx is a failure
	Interval time.Duration // default 2 s
	Timeout  time.Duration // of one question. Default 1 s
	Failures int           // in a row that make the application sick. Default 3
}

func (o *ProbeOptions) ensureDefaults() {
	def(&o.Interval, 2*time.Second)
	def(&o.Timeout, time.Second)
	def(&o.Failures, 3)
}

// probe asks the application on this host. An active whose application is sick hands over to a node whose application is not; a standby with a sick application goes
// last among candidates.
type probe struct {
	o      ProbeOptions
	logger *slog.Logger
	why    atomic.Pointer[string] // it is sick; nil or "" while it is not
}

// sick says why the application is not well, "" if it is or is not asked.
func (p *probe) sick() string {
	if why := p.why.Load(); why != nil {
		return *why
	}
	return ""
}

// run asks until ctx ends.
func (p *probe) run(ctx context.Context) error {
	if p.o.RESP == "" && p.o.HTTP == "" && len(p.o.Command) == 0 {
		return nil
	}
	t := time.NewTicker(p.o.Interval)
	defer t.Stop()
	failures := 0
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		err := p.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if p.sick() != "" {
				p.logger.Info("application answers again")
			}
			failures = 0
			p.why.Store(nil)
		default:
			if failures++; failures >= p.o.Failures {
				if p.sick() == "" {
					p.logger.Warn("application does not answer", "failures", failures, "error", err)
				}
				why := err.Error()
				p.why.Store(&why)
			}
		}
	}
}

// ask asks once.
func (p *probe) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	switch {
	case len(p.o.Command) > 0:
		c := exec.CommandContext(ctx, p.o.Command[0], p.o.Command[1:]...)
		c.WaitDelay = p.o.Timeout
		if err := c.Run(); err != nil {
			return fmt.Errorf("%s: %w", p.o.Command[0], errors.Join(err, ctx.Err()))
		}
		return nil
	case p.o.HTTP != "":
		return askHTTP(ctx, p.o.HTTP)
	}
	return askRESP(ctx, p.o.Addr, p.o.RESP)
}

func askHTTP(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	t := &http.Transport{DisableKeepAlives: true}
	resp, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// askRESP sends one inline command and wants a reply that is no error.
func askRESP(ctx context.Context, addr, command string) error {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d)
	}
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(c, 4<<10)).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s: %w", addr, err)
	}
	if strings.HasPrefix(line, "-") {
		return fmt.Errorf("%s: %s", addr, strings.TrimSpace(line[1:]))
	}
	return nil
}
