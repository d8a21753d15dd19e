// Ask the chat page one question in headless Chromium: node ask_page.mjs URL PROMPT SCREENSHOT
// Prints what the page shows and answered as one JSON object. Run where puppeteer-core resolves: in samples/.
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [url, prompt, screenshot] = process.argv.slice(2);
const puppeteer = createRequire(resolve('package.json'))('puppeteer-core');
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--enable-unsafe-webgpu',
    '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan', '--ignore-gpu-blocklist',
  ],
});
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 390, height: 844, isMobile: true, hasTouch: true });
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('requestfailed', (request) => complaints.push(`${request.url()} failed`));
  const wait = (states) =>
    page.waitForFunction((names) => names.includes(document.body.dataset.state), { timeout: 240000 }, states);
  await page.goto(url);
  await wait(['ready', 'failed']);
  if ((await page.evaluate(() => document.body.dataset.state)) === 'ready') {
    await page.type('#prompt', prompt);
    await page.click('#send');
    // A short answer is done before anyone has seen the page busy.
    await page.waitForFunction(() => document.querySelector('.assistant')?.dataset.ids || document.querySelector('.error'), {
      timeout: 240000,
    });
    await wait(['ready', 'failed']);
  }
  await page.screenshot({ path: screenshot });
  const seen = await page.evaluate(() => ({
    state: document.body.dataset.state,
    device: document.body.dataset.device,
    status: document.getElementById('status').textContent,
    turns: [...document.querySelectorAll('.turn')].map((turn) => turn.textContent),
    ids: JSON.parse(document.querySelector('.assistant')?.dataset.ids ?? 'null'),
    overflow: document.documentElement.scrollWidth > innerWidth,
  }));
  console.log(JSON.stringify({ ...seen, complaints }));
} finally {
  await browser.close();
}
