package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"repld/internal/admin"
)

const salvageHelp = `Salvage writes records again that left the history: those behind a promotion to a moment, or those that only an old active had.

Of all effects on a key only the last one counts. It is written again, as an ordinary write on the active, if nothing has changed the key in the new
history since the two parted. Otherwise it is a conflict: listed, and left for a person. A removal of all keys (FLUSHALL) is never done again.`

func (a *app) salvageCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "salvage", Short: "Write records again that left the history, where nothing has changed since",
		Long: salvageHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.salvageListCmd(), a.salvageDoCmd(false), a.salvageDoCmd(true))
	return cmd
}

func (a *app) salvageListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List what the node that is asked has set aside",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.findDiverged(cmd.Context(), nil)
			if err != nil {
				return err
			}
			return a.emit(all, func(w io.Writer) { divergedTable(w, all) })
		},
	}
}

func (a *app) salvageDoCmd(apply bool) *cobra.Command {
	req := admin.SalvageRequest{Apply: apply}
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Say what would be written again, and what is in conflict",
		Example: "  replctl salvage show NAME --node c --except 'DEL user:*'",
		Args:    cobra.ExactArgs(1),
	}
	if apply {
		cmd.Use, cmd.Short = "apply NAME", "Write again what nothing has changed since"
		cmd.Example = "  replctl salvage apply NAME --node c --except 'DEL user:*'\n  replctl salvage apply NAME --keys 'order:*'"
	}
	cmd.Long = cmd.Short + ".\n\n" + salvageHelp + "\n\nThe exit code is 3 when conflicts were left."
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req.Name = args[0]
		return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
			out, err := c.Salvage(ctx, req, a.progress)
			if err != nil {
				return err
			}
			if err := a.emit(out, func(w io.Writer) { salvageText(w, out) }); err != nil || out.Conflicts == 0 {
				return err
			}
			return silent(exitDegraded)
		})
	}
	f := cmd.Flags()
	f.StringVar(&req.Node, "node", "", "`node` that set it aside (default: the one that is asked)")
	f.StringVar(&req.Keys, "keys", "*", "only keys like this `pattern`")
	f.StringVar(&req.Except, "except", "", "leave such `effects` out, as if they had never been: 'DEL user:*'")
	f.IntVar(&req.Limit, "limit", 100, "list at most so many keys")
	return cmd
}

func salvageText(w io.Writer, r admin.SalvageResult) {
	rows := make([][]string, 0, len(r.Items))
	for _, i := range r.Items {
		rows = append(rows, []string{i.Verdict, i.Op, fmt.Sprintf("%q", i.Key), bytesText(int64(i.Bytes)), fmt.Sprint(i.LSN)})
	}
	if len(rows) > 0 {
		table(w, []string{"VERDICT", "OP", "KEY", ">BYTES", ">LSN"}, rows)
		if more := r.Keys - uint64(len(rows)); more > 0 {
			fmt.Fprintf(w, "… and %s more\n", plural(more, "key"))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s of %s, LSN %d to %d: %s, %s on these keys", r.Name, r.Node, r.From.LSN+1, r.To.LSN, plural(r.Records, "record"), plural(r.Effects, "effect"))
	if r.Excepted > 0 {
		fmt.Fprintf(w, ", %d left out", r.Excepted)
	}
	done := "would be written again"
	if r.Applied {
		done = "written again"
	}
	fmt.Fprintf(w, "\n  %s: %d %s, %d in conflict and left, %d there already, %d expired\n", plural(r.Keys, "key"), r.Apply, done, r.Conflicts, r.Same, r.Expired)
	if r.Clears > 0 {
		fmt.Fprintf(w, "  %s of all keys: never done again\n", plural(r.Clears, "removal"))
	}
}
