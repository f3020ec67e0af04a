package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"repld/internal/admin"
	"repld/internal/events"
)

func (a *app) eventsCmd() *cobra.Command {
	var follow bool
	var limit int
	var kinds []string
	var dir string
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happened on a node, from its journal",
		Long: `Show the events of one node: changes of role, epochs, sync-set changes, alarms, refusals, repairs, what people did, hooks, start and stop. Other nodes have
journals of their own. The journal is bounded; the newest events are kept over restarts. -o json prints one object a line, -o yaml one document an event.

With --dir the files of a node that does not run are read. Exit code 0, or 1 when the node cannot be reached.`,
		Example: "  replctl events\n  replctl events --follow --kind alarm,alarm-cleared,role\n  replctl events --kind audit --limit 0 -o json\n  replctl events --dir /var/lib/repld/events",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usageError("--limit %d is negative", limit)
			}
			show := func(e events.Event) error {
				if len(kinds) > 0 && !slices.Contains(kinds, string(e.Kind)) {
					return nil
				}
				return a.showEvent(e)
			}
			if dir != "" {
				return readJournal(dir, limit, kinds, show)
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				q := admin.EventsRequest{Limit: limit, Follow: follow}
				if len(kinds) > 0 {
					q.Limit = 0 // of these kinds, so the choice is made here
				}
				if q.Limit == limit || limit == 0 || follow {
					return c.Events(ctx, q, show)
				}
				all, err := collect(ctx, c, q)
				if err != nil {
					return err
				}
				return each(newest(all, limit, kinds), show)
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on showing events as they happen, until interrupted")
	cmd.Flags().IntVar(&limit, "limit", 100, "the newest `n` events; 0: all that the node has")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only events of these `kinds`")
	cmd.Flags().StringVar(&dir, "dir", "", "read the journal in this `folder` (DATA/events) instead of asking a node")
	return cmd
}

func readJournal(dir string, limit int, kinds []string, show func(events.Event) error) error {
	all, damaged, err := events.Read(vfs.Default, dir)
	if err != nil {
		return err
	}
	if err := each(newest(all, limit, kinds), show); err != nil {
		return err
	}
	if damaged > 0 {
		return &codeError{code: exitDifference, err: fmt.Errorf("%s of the journal cannot be read", plural(uint64(damaged), "damaged line"))}
	}
	return nil
}

func collect(ctx context.Context, c *admin.Client, q admin.EventsRequest) (all []events.Event, err error) {
	err = c.Events(ctx, q, func(e events.Event) error {
		all = append(all, e)
		return nil
	})
	return all, err
}

// newest returns the last limit events of some kinds (none: all).
func newest(all []events.Event, limit int, kinds []string) []events.Event {
	if len(kinds) > 0 {
		all = slices.DeleteFunc(all, func(e events.Event) bool { return !slices.Contains(kinds, string(e.Kind)) })
	}
	if limit > 0 && len(all) > limit {
		all = all[len(all)-limit:]
	}
	return all
}

func each(all []events.Event, show func(events.Event) error) error {
	for _, e := range all {
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

// showEvent prints one event at once: those that follow may be a long time coming.
func (a *app) showEvent(e events.Event) error {
	if a.format == formatTable {
		_, err := fmt.Fprintf(a.out, "%s  %6d  %-13s  %s%s\n", e.Time.UTC().Format("2006-01-02 15:04:05.000"), e.Seq, e.Kind, e.Msg, attrsText(e.Attrs))
		return err
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if a.format == formatYAML {
		if text, err = yamlOf(text); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "---\n%s", text)
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", text)
	return err
}

// attrsText is " name=value …" in the order of the names.
func attrsText(attrs map[string]any) string {
	names := make([]string, 0, len(attrs))
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		v := fmt.Sprint(attrs[name])
		if f, ok := attrs[name].(float64); ok && f == float64(int64(f)) {
			v = fmt.Sprintf("%.0f", f)
		}
		if v == "" || strings.ContainsAny(v, " \t\n\"=") {
			v = fmt.Sprintf("%q", v)
		}
		fmt.Fprintf(&b, "  %s=%s", name, v)
	}
	return b.String()
}

func (a *app) historyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "history", Short: "Show all epochs: who was active, since when, why, from where, and what was given up",
		Long: `Show the epochs that are known: from the logs of all nodes that answer, from the epochs that they promised, and from their journals. An epoch without a
START was granted but nothing of it is in a log: a promotion that did not come through, or one that is older than the log.

FROM is the last record of the log that the epoch continues, LOST the records that a person or the policy consented to give up, TOOK the time
from the first step of the promotion until clients were accepted. Exit code 0, or 1 when the node cannot be reached.`,
		Example: "  replctl history\n  replctl history -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []admin.Epoch
			err := a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) (err error) {
				all, err = c.History(ctx)
				return err
			})
			if err != nil {
				return err
			}
			return a.emit(all, func(w io.Writer) { historyTable(w, all) })
		},
	}
}

func historyTable(w io.Writer, all []admin.Epoch) {
	if len(all) == 0 {
		fmt.Fprintln(w, "there was no active yet")
		return
	}
	rows := make([][]string, 0, len(all))
	for _, e := range all {
		row := []string{fmt.Sprint(e.Epoch), dash(e.Holder), "-", "-", "-", "-", "-", "-", dash(e.Reason)}
		if !e.Time.IsZero() {
			row[2] = e.Time.UTC().Format(time.RFC3339)
		}
		if e.Start > 0 {
			row[3], row[4] = fmt.Sprint(e.From.LSN), fmt.Sprint(e.Start)
		}
		if e.Source == "log" {
			row[5] = fmt.Sprint(e.Records)
		}
		if e.LostFrom > 0 || e.LostTo > 0 {
			row[6] = fmt.Sprintf("%d-%d", e.LostFrom, e.LostTo)
		}
		if e.Millis > 0 {
			row[7] = fmt.Sprintf("%.0f ms", e.Millis)
		}
		rows = append(rows, row)
	}
	table(w, []string{">EPOCH", "ACTIVE", "SINCE", ">FROM", ">START", ">RECORDS", ">LOST", ">TOOK", "REASON"}, rows)
}
