/** PixiJS as a module: its classic build runs under a strict content security policy, its own module build does not. */

const pixi = /** @type {typeof import("pixi.js")} */ (/** @type {any} */ (globalThis).PIXI);

export const { Application, BitmapText, Container, Graphics, Rectangle, Sprite, Text, Texture, TextureSource } = pixi;
