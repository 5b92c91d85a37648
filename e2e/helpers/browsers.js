// Chromium and Firefox without a screen, with a camera and a microphone that are not there.
import { existsSync } from 'node:fs';
import puppeteer from 'puppeteer-core';

const firstOf = (...paths) => paths.find(existsSync) ?? paths[0];
const CHROMIUM = process.env.CHROMIUM ?? firstOf('/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome');
const FIREFOX = process.env.FIREFOX ?? firstOf('/usr/bin/firefox-esr', '/usr/bin/firefox');

/** Chromium with its green fake camera, which counts the time and beeps once a second. */
export const chromium = (...args) =>
  puppeteer.launch({
    executablePath: CHROMIUM,
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-dev-shm-usage',
      '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream',
      '--autoplay-policy=no-user-gesture-required',
      // A page that is not in front must go on drawing and playing.
      '--disable-background-timer-throttling',
      '--disable-backgrounding-occluded-windows',
      '--disable-renderer-backgrounding',
      ...args,
    ],
  });

/** Firefox as it is, which leaves loopback candidates alone and uses the address of the default route. */
export const firefox = () =>
  puppeteer.launch({
    browser: 'firefox',
    executablePath: FIREFOX,
    headless: true,
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0,
    },
  });

/** A tab that keeps its uncaught errors in `page.problems`. */
export async function newPage(browser) {
  const page = await browser.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  return page;
}

/** Opens a page. */
export async function open(browser, url) {
  const page = await newPage(browser);
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  return page;
}
