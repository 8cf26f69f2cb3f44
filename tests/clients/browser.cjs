// Opens pages in headless Chromium and says what it sees: one JSON document on standard output.
// Usage: node browser.cjs NODE_MODULES CHROMIUM VIEWS; a view is {"file", "width", "scheme", "media", "shot"}.
'use strict';

const path = require('path');
const { pathToFileURL } = require('url');

const [modules, executablePath, views] = process.argv.slice(2);
const { chromium } = require(path.join(modules, 'playwright-core'));
const FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const LIMIT_MS = 60_000;

// Runs in the page: what stands there, as text and as paths.
function seen() {
  const text = (node) => (node ? node.innerText.trim() : null);
  const all = (selector, of, from = document) => [...from.querySelectorAll(selector)].map(of);
  const box = (node) => { const { left, right, top, bottom } = node.getBoundingClientRect(); return { left, right, top, bottom }; };
  const shown = (node) => node.getClientRects().length > 0;
  return {
    data: JSON.parse(document.getElementById('report').textContent),
    tiles: Object.fromEntries(all('[data-tile]', (tile) => [tile.dataset.tile, all('b', text, tile)])),
    charts: all('[data-chart]', (chart) => ({
      key: chart.dataset.chart,
      legend: all('.legend > span', (item) => [text(item), item.querySelector('i').className], chart),
      figures: all('figure', (figure) => ({
        viewBox: figure.querySelector('svg').getAttribute('viewBox').split(' ').map(Number),
        paths: all('path:not(.grid):not(.base)', (area) => [area.getAttribute('class'), area.getAttribute('d')], figure),
        fills: all('path:not(.grid):not(.base)', (area) => getComputedStyle(area).fill, figure),
        plot: box(figure.querySelector('svg')),
        labels: ['.x span', '.y span'].map((labels) => [...figure.querySelectorAll(labels)].filter(shown).map(box)),
      }), chart),
    })),
    tables: Object.fromEntries(all('[data-table]', (table) => [table.dataset.table,
      all('tbody tr', (row) => all('th, td', (cell) => [cell.dataset.of || '', cell.textContent.trim()], row), table)])),
    bars: all('.bars', (list) => all('li', (row) => ({
      name: row.querySelector('.name').textContent,
      number: text(row.querySelector('.number')),
      widths: all('rect', (bar) => Number(bar.getAttribute('width')), row),
    }), list)),
    empty: all('.empty', text),
    names: all('.name', (name) => name.getBoundingClientRect().right),
    scripts: all('script', (script) => script.type),
    hostile: all('*', (node) => node.getAttributeNames().filter((name) => name.startsWith('on'))).flat()
      .concat(all('img, iframe, object, embed', (node) => node.tagName)),
    room: [document.documentElement.scrollWidth, document.documentElement.clientWidth],
    ground: getComputedStyle(document.body).backgroundColor,
  };
}

async function look(browser, view) {
  const context = await browser.newContext({
    viewport: { width: view.width, height: 900 }, colorScheme: view.scheme || 'light', offline: false,
  });
  const page = await context.newPage();
  const wrong = [];
  const url = pathToFileURL(view.file).href;
  page.on('console', (message) => { if (message.type() !== 'log') wrong.push(`console: ${message.text()}`); });
  page.on('pageerror', (error) => wrong.push(`error: ${error}`));
  page.on('dialog', (dialog) => { wrong.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => {
    if (request.url() !== url && !request.url().startsWith('data:')) wrong.push(`request: ${request.url()}`);
  });
  await page.emulateMedia({ media: view.media || 'screen', colorScheme: view.scheme || 'light' });
  await page.goto(url, { timeout: LIMIT_MS });
  const found = await page.evaluate(seen);
  if (view.shot && view.media === 'print') await page.pdf({ path: `${view.shot}.pdf`, format: 'A4', preferCSSPageSize: true, printBackground: false });
  if (view.shot) await page.screenshot({ path: view.shot, fullPage: true });
  await context.close();
  return { ...found, wrong };
}

async function main() {
  const browser = await chromium.launch({ executablePath, headless: true, chromiumSandbox: false, args: FLAGS, timeout: LIMIT_MS });
  try {
    const answers = [];
    for (const view of JSON.parse(views)) answers.push(await look(browser, view));
    process.stdout.write(JSON.stringify(answers));
  } finally {
    await browser.close();
  }
}

main().catch((error) => { console.error(error); process.exit(1); });
