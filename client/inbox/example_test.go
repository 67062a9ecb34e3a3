package inbox_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/inbox"
)

func ExampleInbox_Do() {
	ctx := context.Background()
	db, err := sql.Open("postgres", "postgres://members@127.0.0.1/members")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	in, err := inbox.New(db, inbox.PostgreSQL, inbox.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := in.Create(ctx); err != nil {
		fmt.Println(err)
		return
	}
	const group = "s-members"
	c, err := client.Dial(ctx, client.Options{ZKHost: "127.0.0.1:2181", Group: group})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ctx)

	_, err = c.Subscribe(ctx, []client.Binding{client.Direct("message", "pay-succ")},
		func(ctx context.Context, d *client.Delivery) error {
			_, err := in.Do(ctx, group, d, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, "UPDATE members SET paid = paid + 1 WHERE id = $1", d.Properties["member"])
				return err
			})
			return err // nil: it has taken effect, now or before
		})
	if err != nil {
		fmt.Println(err)
	}
	<-ctx.Done()
}
