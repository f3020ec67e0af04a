package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"repld/internal/admin"
	"repld/internal/node"
	"repld/wal"
)

// momentFlags are those of a promotion to a moment.
type momentFlags struct {
	lsn, after uint64
	time       string
	since      string
	before     string
	flags      *pflag.FlagSet
}

func (m *momentFlags) add(f *pflag.FlagSet) {
	m.flags = f
	f.Uint64Var(&m.lsn, "to-lsn", 0, "end the history behind this `LSN`; what comes after is set aside")
	f.StringVar(&m.time, "to-time", "", "end it behind what was written by this `time`: RFC 3339, or a duration before now like 10m")
	f.StringVar(&m.before, "before", "", "end it before the first record with such an `effect`: 'DEL user:*', 'SET price:*', 'ANY tmp:*', CLEAR")
	f.Uint64Var(&m.after, "after", 0, "--before looks behind this `LSN` only")
	f.StringVar(&m.since, "since", "", "--before looks from this `time` on, like --to-time")
}

// into fills in the request.
func (m *momentFlags) into(req *admin.PromoteRequest, now time.Time) error {
	req.ToLSN, req.Before, req.After = wal.LSN(m.lsn), m.before, wal.LSN(m.after)
	for _, t := range []struct {
		flag, text string
		into       **time.Time
	}{{"--to-time", m.time, &req.ToTime}, {"--since", m.since, &req.AfterTime}} {
		at, err := parseTime(t.text, now)
		if err != nil {
			return usageError("%s: %v", t.flag, err)
		}
		if !at.IsZero() {
			*t.into = &at
		}
	}
	if m.lsn == 0 && m.flags.Changed("to-lsn") {
		return usageError("--to-lsn 0: the first record is 1")
	}
	if m.before != "" { // before the node is held for it
		if err := node.CheckPredicate(m.before); err != nil {
			return usageError("--before: %v", err)
		}
	}
	given := 0
	for _, set := range []bool{m.lsn != 0, m.time != "", m.before != ""} {
		if set {
			given++
		}
	}
	if given > 1 {
		return usageError("--to-lsn, --to-time and --before: give one of them")
	}
	if m.before == "" && (m.after != 0 || m.since != "") {
		return usageError("--after and --since say where --before looks")
	}
	return nil
}

// confirmCut holds the node, so that the delay does not run on during the decision, shows the plan and wants the last LSN that is kept typed. Without an answer the
// node stays held and nothing else happens. It returns the request with the moment nailed down: what was shown is what is done.
func (a *app) confirmCut(ctx context.Context, c *admin.Client, req admin.PromoteRequest, yes bool) (admin.PromoteRequest, error) {
	if _, err := c.Hold(ctx, admin.HoldRequest{Node: req.Node, Reason: "promotion to a moment"}); err != nil {
		return req, err
	}
	plan := req
	plan.Plan = true
	out, err := c.Promote(ctx, plan, a.progress)
	if err != nil {
		return req, err
	}
	if out.Moment == nil {
		return req, fmt.Errorf("the node at %s does not know of promotions to a moment", out.Node)
	}
	if !out.Allowed {
		planText(a.err, out)
		return req, silent(exitRefused)
	}
	req.AcceptCut, req.ToLSN, req.CutWhy = true, out.Moment.LSN, out.Moment.Why
	req.ToTime, req.Before, req.After, req.AfterTime = nil, "", 0, nil
	if yes {
		return req, nil
	}
	planText(a.err, out)
	fmt.Fprintf(a.err, "%s that were acknowledged leave the history. Type the last LSN that is kept, %d, to go on:\n", plural(out.Moment.Aside, "record"), out.Moment.LSN)
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if strings.TrimSpace(answer) == strconv.FormatUint(uint64(out.Moment.LSN), 10) {
		return req, nil
	}
	if errors.Is(err, io.EOF) && answer == "" {
		return req, usageError("a promotion to a moment needs a person's confirmation, or --yes")
	}
	return req, usageError("not confirmed, nothing was changed; the node is still held: replctl release lets it go on")
}

// momentText shows the records around the cut.
func momentText(w io.Writer, m *admin.Moment) {
	if m == nil {
		return
	}
	fmt.Fprintf(w, "  the history ends at LSN %d, written at %s (%s)\n", m.LSN, m.Time.UTC().Format("2006-01-02T15:04:05.000Z"), m.Why)
	for _, r := range m.Around {
		mark := "keep "
		if !r.Kept {
			mark = "ASIDE"
		}
		fmt.Fprintf(w, "    %s  %d  %s  %s\n", mark, r.LSN, r.Time.UTC().Format("15:04:05.000"), strings.Join(append([]string{r.Kind}, r.Effects...), "  "))
	}
	fmt.Fprintf(w, "  set aside: %s of this node's log", plural(m.Aside, "record"))
	if m.Matched > 0 {
		fmt.Fprintf(w, ", %d of them with %s that are meant", m.Matched, plural(m.MatchedEffects, "effect"))
	}
	fmt.Fprintln(w)
	if !m.Held {
		fmt.Fprintf(w, "  the state is at LSN %d and goes on: replctl hold keeps it there while you decide\n", m.Applied.LSN)
	}
}
