// Clicks through the broker's page as an operator would. Arguments: a JSON object, see page_test.go. Any console
// error, script error, failed request or request to another host ends it with exit code 1.
import { createRequire } from 'node:module';
import path from 'node:path';

const o = JSON.parse(process.argv[2]);
const { chromium } = createRequire(path.join(o.playwright, 'package.json'))('playwright-core');
const problems = [];
const patience = 60000; // ms: the machine may have much else to do

function check(ok, text) {
  if (!ok) throw new Error(text);
  console.log('ok   ' + text);
}

function watch(page) {
  page.setDefaultTimeout(patience);
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type())) problems.push(`console: ${m.text()} at ${page.url()}`); });
  page.on('pageerror', (e) => problems.push(`script: ${e.stack} at ${page.url()}`));
  page.on('response', (r) => { if (r.status() >= 400) problems.push(`${r.status()} of ${r.url()}`); });
  page.on('request', (r) => { if (!r.url().startsWith(o.url)) problems.push(`request to ${r.url()}`); });
  page.on('dialog', (d) => d.accept());
}

const shot = (page, name) => page.screenshot({ path: path.join(o.artifacts, name + '.png') });
const title = (page, text) => page.locator('h1', { hasText: text }).waitFor();
const live = (page) => page.locator('#liveness', { hasText: /^live$/ }).waitFor();
const go = async (page, link, text) => {
  await page.getByRole('navigation').getByRole('link', { name: link }).click();
  await title(page, text);
};

// fits tells that nothing makes the page wider than the window.
const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);

async function overview(page) {
  await page.goto(o.url + '/');
  await title(page, 'Overview');
  check(page.url() === o.url + '/ui/', '/ leads to the page');
  await live(page);
  await page.locator('.plot canvas').nth(1).waitFor();
  await page.locator('.plot canvas').nth(2).waitFor();
  check(true, 'the overview is live and has its plots');
  const alarms = page.getByLabel('What needs attention');
  await alarms.getByText(`Group ${o.away} on topic trade is away`).waitFor();
  await alarms.getByText('dead letter').waitFor();
  check(true, 'it says which group is away, and that there are dead letters');
  const before = await page.locator('.tiles').innerText();
  await page.waitForFunction((text) => document.querySelector('.tiles').innerText !== text, before);
  check(await page.locator('.plot canvas').count() === 3, 'it changes by itself, and the plots stay');
  check(await fits(page), 'it fits the window');
}

async function groups(page) {
  await go(page, 'Topics', 'Topics');
  await page.getByRole('link', { name: 'trade' }).click();
  await title(page, 'trade');
  await page.locator('.plot canvas').nth(1).waitFor();
  await shot(page, 'topic');
  await go(page, 'Groups', 'Groups');
  await page.getByRole('searchbox').pressSequentially('awa');
  await page.waitForFunction(() => document.querySelectorAll('#live tbody tr').length === 1);
  check(page.url().includes('q=awa'), 'a search narrows the groups while it is typed');
  await live(page);
  await shot(page, 'groups');
  await page.getByRole('link', { name: o.away }).click();
  await title(page, o.away);
  await page.locator('#condition', { hasText: 'Nobody of it is connected' }).waitFor();
  await page.getByLabel('Your name').fill('ann');
  await page.getByLabel('Reason').fill('the release is broken');
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.locator('#condition', { hasText: 'An operator has paused it' }).waitFor();
  check(await page.getByLabel('Your name').inputValue() === 'ann', 'a group is paused, and the name is remembered');
  await page.locator('.plot canvas').nth(1).waitFor();
  await shot(page, 'group');
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.locator('#condition', { hasText: 'Nobody of it is connected' }).waitFor();
  check(true, 'a group is resumed');
}

async function transactions(page) {
  await go(page, 'Transactions', 'Transactions');
  await shot(page, 'transactions');
  await page.getByRole('link', { name: o.transaction }).click();
  await title(page, 'Message');
  await page.getByRole('heading', { name: 'Decide it' }).waitFor();
  await page.getByRole('button', { name: 'Commit' }).click();
  check(await page.getByLabel('Reason').evaluate((e) => e.matches(':invalid')), 'a decision wants a reason');
  await page.getByLabel('Reason').fill('the row is there');
  await page.getByRole('button', { name: 'Commit' }).click();
  await page.locator('.story', { hasText: 'committed as seq' }).waitFor();
  const text = await page.locator('.story').innerText();
  check(text.includes('operator ann: the row is there'), 'a transaction is committed, and the story says by whom and why');
  check(await page.getByRole('button', { name: 'Commit' }).count() === 0, 'it is not decided twice');
  await page.reload();
  check(await page.locator('.picture .mark').count() > 3, 'the story is a picture');
  await shot(page, 'message');
}

async function later(page) {
  await go(page, 'For later', 'For later');
  await page.getByRole('link', { name: o.later }).click();
  await page.getByRole('heading', { name: 'Cancel it' }).waitFor();
  await page.getByLabel('Reason').fill('the member has left');
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.locator('.story', { hasText: 'cancelled by operator ann: the member has left' }).waitFor();
  check(await page.getByRole('button', { name: 'Cancel' }).count() === 0, 'a message for later is cancelled');
}

async function letters(page) {
  await go(page, 'Dead letters', 'Dead letters');
  await page.getByRole('link', { name: o.refuses }).click();
  await title(page, `Dead letters of ${o.refuses}`);
  await page.getByRole('link', { name: '1', exact: true }).click();
  await page.locator('pre', { hasText: 'membership 0' }).waitFor();
  await shot(page, 'letter');
  await page.goBack();
  await page.getByRole('button', { name: 'Requeue dead letter 1', exact: true }).click();
  const letter = (n) => page.getByRole('link', { name: n, exact: true });
  await letter('1').and(page.locator('tr:not(:has-text("requeued")) a')).waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Discard dead letter 2', exact: true }).click();
  await letter('2').waitFor({ state: 'detached' });
  await shot(page, 'letters');
  check(true, 'one dead letter is requeued, one discarded');
}

async function keyboard(page) {
  await page.goto(o.url + '/ui/');
  await page.keyboard.press('Tab');
  check(await page.evaluate(() => document.activeElement.className) === 'skip', 'the first key leads past the navigation');
  await page.keyboard.press('Enter');
  check(await page.evaluate(() => document.activeElement.id) === 'main', 'and into the content');
  await page.goto(o.url + '/ui/');
  for (let i = 0; i < 4; i++) await page.keyboard.press('Tab'); // skip, brand, Overview, Topics
  await page.keyboard.press('Enter');
  await title(page, 'Topics');
  check(true, 'the navigation is reached by keys');
  await page.locator('#find').focus();
  await page.keyboard.type(o.transaction);
  await page.keyboard.press('Enter');
  await title(page, 'Message');
  const unreachable = await page.evaluate(() => [...document.querySelectorAll('[onclick], [tabindex]')].filter((e) => e.tabIndex > 0 || e.onclick).length);
  check(unreachable === 0, 'nothing changes the order of keys or needs a mouse');
}

async function dark(browser) {
  const page = await browser.newPage({ colorScheme: 'dark', viewport: { width: 400, height: 800 } });
  watch(page);
  await page.goto(o.url + '/ui/');
  await live(page);
  await page.locator('.plot canvas').nth(1).waitFor();
  const [r, g, b] = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
  check(r + g + b < 3 * 64, 'who likes it dark has it dark');
  check(await fits(page), 'it fits a phone');
  await shot(page, 'dark');
  await page.close();
}

// mistakes are told on a page; they may look like errors to the browser.
async function mistakes(browser) {
  const page = await browser.newPage();
  await page.goto(o.url + '/ui/messages/17');
  await page.getByText('give 32 hexadecimal digits').waitFor();
  await page.goto(o.url + '/ui/topics/none');
  await page.getByText('it is not served by this broker').waitFor();
  check(true, 'a mistake is told on a page');
  await page.goto('about:blank');
  await page.setContent(`<form method="post" action="${o.url}/ui/groups/trade/${o.away}/pause"><button>Win</button></form>`);
  const answer = page.waitForResponse((r) => r.url().includes('/pause'));
  await page.getByRole('button').click();
  check((await answer).status() === 403, 'a page of another host gives no orders');
  await page.close();
}

const browser = await chromium.launch({ executablePath: o.chromium, args: ['--no-sandbox'], timeout: patience });
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  watch(page);
  for (const part of [overview, groups, transactions, later, letters, keyboard]) await part(page);
  await page.goto(o.url + '/ui/');
  await live(page);
  await page.locator('.plot canvas').nth(1).waitFor();
  await shot(page, 'overview');
  await dark(browser);
  await mistakes(browser);
  if (problems.length > 0) throw new Error(problems.join('\n'));
} catch (e) {
  for (const context of browser.contexts()) for (const page of context.pages()) {
    await shot(page, 'failed').catch(() => {});
    console.log(await page.locator('main').innerText().catch(() => ''));
  }
  console.log('FAIL ' + [e.stack, ...problems].join('\n'));
  process.exitCode = 1;
} finally {
  await browser.close();
}
