package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
)

func (a *app) promoteCmd() *cobra.Command {
	var req admin.PromoteRequest
	var moment momentFlags
	var k int
	var yes bool
	cmd := &cobra.Command{
		Use:   "promote [NODE]",
		Short: "Make a standby the active after the old one died or was cut off",
		Long: `Make NODE (default: the node that is asked) the active, in a new epoch. The old active, if it still runs, is fenced: none of
its later writes is accepted. Use switchover when the old active is well.

Enough nodes have to answer to show that no acknowledged write can be missing: the last active, or all but k-1 of
the sync set. Otherwise it is refused with exit code 5. --allow-data-loss overrides that, asks for confirmation (or --yes), and says and
records what was given up.

To undo a mistake, promote a standby whose state has not reached it yet (a lagged one) to a moment: --to-lsn, --to-time or --before. Its history
ends there (the node is held from then on); what comes after is set aside on each node that has it, for: replctl salvage. --plan shows the records around the cut. It asks for
confirmation (or --yes). The other nodes are rebuilt from the new active; until then the new epoch promises no copies (--sync 0), then as many as
configured. --before looks at the effects of records: DEL (which a removal of all keys is, too), SET, CLEAR, or ANY, on keys like the pattern.`,
		Example: "  replctl promote b --plan\n  replctl promote b\n  replctl promote c --before 'DEL user:*' --plan\n  replctl promote b --allow-data-loss --reason 'rack 2 burnt down'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.Node = args[0]
			}
			if cmd.Flags().Changed("sync") {
				req.Sync = &k
			}
			if err := moment.into(&req, a.now()); err != nil {
				return err
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				if req.ToMoment() && !req.Plan {
					var err error
					if req, err = a.confirmCut(ctx, c, req, yes); err != nil {
						return err
					}
				} else if req.AllowDataLoss && !req.Plan && !yes {
					if err := a.confirmLoss(ctx, c, req); err != nil {
						return err
					}
				}
				out, err := c.Promote(ctx, req, a.progress)
				return a.promoted("promote", out, err)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&req.Plan, "plan", false, "say what would happen, change nothing")
	f.BoolVar(&req.AllowDataLoss, "allow-data-loss", false, "promote although acknowledged writes may be lost")
	f.BoolVar(&req.Bootstrap, "bootstrap", false, "first start of a cluster although not all nodes answer")
	f.IntVar(&k, "sync", 0, "acknowledgements a commit of the new epoch needs (default: as configured)")
	f.StringVar(&req.Reason, "reason", "", "why, for the log of all nodes")
	f.BoolVar(&yes, "yes", false, "do not ask for confirmation of --allow-data-loss or of a moment")
	moment.add(f)
	return cmd
}

func (a *app) switchoverCmd() *cobra.Command {
	var req admin.SwitchoverRequest
	var at string
	cmd := &cobra.Command{
		Use:   "switchover [TO]",
		Short: "Hand the activity over to a standby, with the old active's help",
		Long: `Hand over to TO (default: the best standby): the active pauses writes, TO catches up to its last record, takes over in a new
epoch, and writes resume there. No acknowledged write is lost; if TO does not catch up in time, or fails meanwhile, the old active resumes.

--at schedules it: a time of day (15:04), or a moment (2006-01-02T15:04:05Z), within a week. The active keeps it on disk, over restarts, shows it in status, and checks
again then; what is not possible yet it tries for another minute. It is off when another node became the active before. Said twice it is scheduled once; another
time is refused until --cancel.`,
		Example: "  replctl switchover\n  replctl switchover c --plan\n  replctl switchover c --at 03:30\n  replctl switchover --cancel",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.To = args[0]
			}
			if at != "" {
				t, err := momentOf(at, a.now())
				if err != nil {
					return err
				}
				req.At = t
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				out, err := c.Switchover(ctx, req, a.progress)
				if req.Cancel && err == nil {
					return a.emit(map[string]bool{"cancelled": out.Scheduled != nil}, func(w io.Writer) { cancelText(w, out.Scheduled) })
				}
				if err == nil && out.Scheduled != nil {
					return a.emit(out, func(w io.Writer) { scheduledText(w, out) })
				}
				return a.promoted("switchover", out, err)
			})
		},
	}
	cmd.Flags().BoolVar(&req.Plan, "plan", false, "say what would happen, change nothing")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the log of all nodes")
	cmd.Flags().StringVar(&at, "at", "", "begin at this `time`, not now")
	cmd.Flags().BoolVar(&req.Cancel, "cancel", false, "forget a scheduled switchover")
	return cmd
}

func scheduledText(w io.Writer, out admin.PromoteResult) {
	s, already := out.Scheduled, ""
	if out.Already {
		already = " already"
	}
	fmt.Fprintf(w, "scheduled%s: %s hands over to %s at %s; see replctl status, or take it back with --cancel\n", already, s.From, s.Whom(), s.At.UTC().Format(time.RFC3339))
}

func cancelText(w io.Writer, old *admin.Scheduled) {
	if old == nil {
		fmt.Fprintln(w, "nothing was scheduled")
		return
	}
	fmt.Fprintf(w, "cancelled: the switchover to %s at %s\n", old.Whom(), old.At.UTC().Format(time.RFC3339))
}

// momentOf reads a time of day, the next one, or a moment.
func momentOf(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		d, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		t := time.Date(now.Year(), now.Month(), now.Day(), d.Hour(), d.Minute(), d.Second(), 0, now.Location())
		if !t.After(now) {
			t = t.AddDate(0, 0, 1)
		}
		return t, nil
	}
	return time.Time{}, usageError("--at %s: want a time like 15:04 or 2006-01-02T15:04:05Z", text)
}

func (a *app) demoteCmd() *cobra.Command {
	var req admin.DemoteRequest
	cmd := &cobra.Command{
		Use:     "demote [NODE]",
		Short:   "Make the active step down; the cluster then has no active",
		Example: "  replctl demote a --reason maintenance",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.Node = args[0]
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				if err := c.Demote(ctx, req, a.progress); err != nil {
					return err
				}
				return a.emit(map[string]bool{"demoted": true}, func(w io.Writer) {
					fmt.Fprintln(w, "demoted: nobody may write until a node is promoted")
				})
			})
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the log of all nodes")
	return cmd
}

// confirmLoss shows the plan and wants the cluster's name typed. Without an answer nothing happens.
func (a *app) confirmLoss(ctx context.Context, c *admin.Client, req admin.PromoteRequest) error {
	plan := req
	plan.Plan = true
	out, err := c.Promote(ctx, plan, a.progress)
	var fault *admin.Error
	if err != nil && (!errors.As(err, &fault) || fault.Code != admin.CodeRefused) {
		return err
	}
	st, err := c.Status(ctx, true)
	if err != nil {
		return err
	}
	planText(a.err, out)
	fmt.Fprintf(a.err, "type the cluster's name, %s, to go on:\n", st.Cluster)
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if strings.TrimSpace(answer) == st.Cluster {
		return nil
	}
	if errors.Is(err, io.EOF) && answer == "" {
		return usageError("--allow-data-loss needs a person's confirmation, or --yes")
	}
	return usageError("not confirmed, nothing was changed")
}

// promoted prints how a promotion, a switchover or a plan came out.
func (a *app) promoted(verb string, out admin.PromoteResult, err error) error {
	var fault *admin.Error
	if err != nil && (!errors.As(err, &fault) || fault.Code != admin.CodeRefused) {
		return err
	}
	if a.format != formatTable {
		if e := a.emit(out, nil); e != nil {
			return e
		}
		return err
	}
	switch {
	case err != nil:
		refusalText(a.err, verb, out, err)
		return silent(exitRefused)
	case out.Plan:
		planText(a.out, out)
		if !out.Allowed {
			return silent(exitRefused)
		}
	case out.Already:
		fmt.Fprintf(a.out, "%s is already the active at epoch %d, nothing was changed\n", out.Node, out.Epoch)
	default:
		resultText(a.out, out)
	}
	return nil
}

func resultText(w io.Writer, out admin.PromoteResult) {
	fmt.Fprintf(w, "%s is active at epoch %d (before: %d), after %.0f ms\n", out.Node, out.Epoch, out.Previous, out.Millis)
	fmt.Fprintf(w, "  continues at LSN %d%s; replayed %s in %.2f s\n", out.From.LSN, source(out), plural(out.Replay, "record"), out.ReplaySec)
	fmt.Fprintf(w, "  sync set: %s besides the active\n", out.Sync)
	lossText(w, out)
	if m := out.Moment; m != nil {
		fmt.Fprintf(w, "  the history ends at LSN %d (%s); %s set aside here: replctl salvage list\n", m.LSN, m.Why, plural(m.Aside, "record"))
	}
}

func planText(w io.Writer, out admin.PromoteResult) {
	fmt.Fprintf(w, "plan: %s would become active at epoch %d (now: %d)\n", out.Node, out.Epoch, out.Previous)
	fmt.Fprintf(w, "  continues at LSN %d%s; replays %s, about %.2f s\n", out.From.LSN, source(out), plural(out.Replay, "record"), out.ReplaySec)
	fmt.Fprintf(w, "  sync set: %s besides the active\n", out.Sync)
	fmt.Fprintf(w, "  answered: %s; missing: %s\n", list(out.Have), list(out.Missing))
	momentText(w, out.Moment)
	lossText(w, out)
	if out.Already {
		fmt.Fprintln(w, "  it is the active already: nothing would change")
	}
	if !out.Allowed {
		fmt.Fprintln(w, "  it would be REFUSED:")
		for _, r := range out.Reasons {
			fmt.Fprintf(w, "    - %s\n", r)
		}
	}
}

func source(out admin.PromoteResult) string {
	if out.Source == "" || out.Source == out.Node {
		return ""
	}
	return " with the log of " + out.Source
}

func lossText(w io.Writer, out admin.PromoteResult) {
	switch {
	case out.LossSaid != "":
		fmt.Fprintf(w, "  lost: %s\n", out.LossSaid)
	case out.LostTo > 0:
		fmt.Fprintf(w, "  lost: LSN %d to %d\n", out.LostFrom, out.LostTo)
	case out.Allowed:
		fmt.Fprintln(w, "  lost: nothing that was acknowledged")
	}
}

// aboutSync reports whether a reason can be met by a lower k.
func aboutSync(reason string) bool { return strings.Contains(reason, "--sync") }

func refusalText(w io.Writer, verb string, out admin.PromoteResult, err error) {
	if len(out.Reasons) == 0 {
		fmt.Fprintf(w, "%s refused, nothing was changed: %v\n", verb, err)
	} else {
		fmt.Fprintf(w, "%s refused, nothing was changed:\n", verb)
	}
	for _, r := range out.Reasons {
		fmt.Fprintf(w, "  - %s\n", r)
	}
	if len(out.Have)+len(out.Missing) > 0 {
		fmt.Fprintf(w, "answered: %s; missing: %s\n", list(out.Have), list(out.Missing))
	}
	fmt.Fprintln(w, "What to do:")
	if len(out.Missing) > 0 {
		fmt.Fprintln(w, "  - start or reconnect what is missing, then try again")
	}
	if slices.ContainsFunc(out.Reasons, aboutSync) {
		fmt.Fprintln(w, "  - or let the new epoch promise fewer copies: replctl promote NODE --sync N")
	}
	if verb == "promote" && !(len(out.Reasons) > 0 && aboutSync(out.Reasons[0])) {
		fmt.Fprintln(w, "  - see what would be lost: replctl promote NODE --allow-data-loss --plan; then decide without --plan")
	} else if verb != "promote" {
		fmt.Fprintln(w, "  - see replctl status; if the active is dead use replctl promote")
	}
}
