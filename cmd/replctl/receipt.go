package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"repld/internal/admin"
	"repld/internal/server"
	"repld/wal"
)

func (a *app) receiptCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "receipt", Short: "Check durability receipts", Args: cobra.NoArgs,
		Long: "A receipt, EPOCH/LSN/HASH, is what a client gets with a write when it asks for one: REPLD.RECEIPT SET key value, or REPLD.RECEIPTS ON for all writes of a connection.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "check RECEIPT", Short: "Say whether a write is in the history of each node", Args: cobra.ExactArgs(1),
		Long: `Ask all nodes whether the write that RECEIPT was given for is in their log: the same record of the same epoch with the same chain hash, which covers everything before it.

  in       it is, and so is all that was written before it
  not-in   the history holds something else there: the write was given up in a promotion with loss or to a moment (replctl diverged list)
  unknown  the log does not reach there: it was trimmed, or has not come so far

The exit code is 0 when it is in every node's history, 6 when it is not in that of a node, 1 when nobody says not-in but somebody does not know.`,
		Example: "  replctl receipt check 3/1042/9f86d081884c7d65",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := wal.ParsePosition(args[0]); err != nil {
				return usageError("%v", err)
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				out, err := c.Receipt(ctx, admin.ReceiptRequest{Receipt: args[0]})
				if err != nil {
					return err
				}
				if err := a.emit(out, func(w io.Writer) { receiptTable(w, out) }); err != nil {
					return err
				}
				return silent(receiptCode(out))
			})
		},
	})
	return cmd
}

func receiptTable(w io.Writer, out admin.ReceiptResult) {
	rows := make([][]string, 0, len(out.Nodes))
	for _, n := range out.Nodes {
		rows = append(rows, []string{n.Node, n.Verdict, n.Why})
	}
	table(w, []string{"NODE", "VERDICT", "WHY"}, rows)
	switch receiptCode(out) {
	case exitOK:
		fmt.Fprintln(w, "\nreceipt: the write is in the history of every node")
	case exitDifference:
		fmt.Fprintln(w, "\nreceipt: the write is NOT in the history of every node")
	}
}

// receiptCode: not-in weighs more than unknown.
func receiptCode(out admin.ReceiptResult) int {
	code := exitOK
	for _, n := range out.Nodes {
		switch server.Verdict(n.Verdict) {
		case server.VerdictIn:
		case server.VerdictNotIn:
			return exitDifference
		default:
			code = exitError
		}
	}
	return code
}
