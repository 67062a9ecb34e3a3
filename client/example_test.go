package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
)

// example stands for a broker and a registry that run somewhere: with them a program would set
// Options.ZKHost.
func example() (options client.Options, stop func()) {
	registry := clienttest.NewRegistry()
	broker, err := clienttest.Listen()
	if err != nil {
		panic(err)
	}
	broker.Relay(registry)
	registry.SetBrokers("trade", broker.Addr())
	return client.Options{Registry: registry, Group: "orders", Topics: []string{"trade"}}, broker.Close
}

func ExampleClient_Publish() {
	options, stop := example()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	c, err := client.Dial(ctx, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ctx)

	err = c.Publish(ctx, &client.Message{
		Topic: "trade", Type: "pay-succ", Body: []byte(`{"order":17}`),
		Properties: map[string]string{"trace": "4711"},
		Expires:    time.Now().Add(time.Hour),
	})
	fmt.Println("published:", err)

	err = c.Publish(ctx, &client.Message{Topic: "stock", Type: "sold", Body: []byte("17")})
	fmt.Println(errors.Is(err, client.Invalid))
	// Output:
	// published: <nil>
	// true
}

func ExampleClient_PublishAsync() {
	options, stop := example()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ctx)

	var pending []*client.Pending
	for i := range 1000 {
		pending = append(pending, c.PublishAsync(ctx, &client.Message{
			Topic: "trade", Type: "pay-succ", Body: fmt.Appendf(nil, "order %d", i),
		}))
	}
	stored := 0
	for _, p := range pending {
		if err := p.Wait(ctx); err != nil { // repeats what was lost, under the same id
			fmt.Println(err)
			continue
		}
		stored++
	}
	fmt.Println(stored, "stored")
	// Output: 1000 stored
}

func ExampleClient_PublishTx() {
	options, stop := example()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rows := map[string]bool{} // stands for a database table

	// The broker asks when it did not hear the outcome, perhaps after a crash of this process. The
	// listener looks for what the transaction wrote.
	options.CheckListener = func(ctx context.Context, check client.Check) client.Verdict {
		if rows[check.Properties["order"]] {
			return client.Commit
		}
		return client.Unknown // it may still come; a program that knows better returns Rollback
	}
	c, err := client.Dial(ctx, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ctx)

	order := func(number string) error {
		m := &client.Message{Topic: "trade", Type: "order", Body: []byte(number), Properties: map[string]string{"order": number}}
		return c.PublishTx(ctx, m, func(context.Context) error {
			if rows[number] {
				return errors.New("duplicate key") // definite: the message is rolled back
			}
			rows[number] = true
			return nil // the row is there: the message is delivered
		})
	}
	fmt.Println(order("17"))
	fmt.Println(order("17"))
	// Output:
	// <nil>
	// duplicate key
}

func ExampleClient_Subscribe() {
	options, stop := example()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ctx)

	done := make(chan struct{})
	attempts := 0
	_, err = c.Subscribe(ctx, []client.Binding{client.Regx("trade", "^pay-")}, func(_ context.Context, d *client.Delivery) error {
		attempts++
		if attempts == 1 {
			return errors.New("the database is away") // it will come again
		}
		fmt.Printf("%s: %s, attempt %d\n", d.Type, d.Body, attempts)
		close(done)
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, messageType := range []string{"refund", "pay-succ"} {
		if err := c.Publish(ctx, &client.Message{Topic: "trade", Type: messageType, Body: []byte("order 17")}); err != nil {
			fmt.Println(err)
		}
	}
	<-done
	// Output: pay-succ: order 17, attempt 2
}

func ExampleClient_Prepare() {
	options, stop := example()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ctx)

	tx, err := c.Prepare(ctx, &client.Message{Topic: "trade", Type: "order", Body: []byte("17")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tx.Leave() // whatever happens below, the broker may ask about it afterwards
	fmt.Println("commit:", tx.Commit(ctx))
	// Output: commit: <nil>
}

func ExampleMiddleware() {
	options, stop := example()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// The group's handlers all tell what they did.
	options.Middleware = []client.Middleware{func(next client.Handler) client.Handler {
		return func(ctx context.Context, d *client.Delivery) error {
			err := next(ctx, d)
			fmt.Println(d.Type, "handled:", err)
			return err
		}
	}}
	c, err := client.Dial(ctx, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan struct{})
	_, err = c.Subscribe(ctx, []client.Binding{client.Fanout("trade")}, func(_ context.Context, d *client.Delivery) error {
		fmt.Printf("%d bytes\n", len(d.Body))
		close(done)
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	body := bytes.Repeat([]byte("order 17; "), 1000)
	if err := c.Publish(ctx, &client.Message{Topic: "trade", Type: "pay-succ", Body: body, Compress: true}); err != nil {
		fmt.Println(err)
	}
	<-done
	if err := c.Close(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 10000 bytes
	// pay-succ handled: <nil>
}
